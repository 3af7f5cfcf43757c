import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from addlib.metrics import nearest_neighbours, recall, recall_at_1


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


def make(*shape, seed=0, **settings):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **settings)


def loop(embeddings, reference=None, exclude=None, reference_exclude=None):
    """Nearest neighbours of integer points in Python's own integers: no rounding, the lowest index of several."""
    others = embeddings if reference is None else reference
    other_groups = exclude if reference is None else reference_exclude
    found = []
    for i, a in enumerate(embeddings):
        best = None
        for j, b in enumerate(others):
            if (reference is None and i == j) or (exclude is not None and exclude[i] == other_groups[j]):
                continue
            distance = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
            if best is None or distance < best[0]:
                best = distance, j
        found.append(best[1])
    return found


@pytest.mark.parametrize("elements", [2**22, 1, 1400])
def test_against_scikit_learn(elements, device, monkeypatch):
    monkeypatch.setattr(recall, "ELEMENTS", elements)  # distances held at a time
    embeddings, reference = make(201, 16), make(153, 16, seed=1)
    finder = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(embeddings.double().numpy())
    expected = finder.kneighbors(embeddings.double().numpy(), return_distance=False)[:, 1]
    assert nearest_neighbours(embeddings.to(device)).tolist() == expected.tolist()
    finder = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(reference.double().numpy())
    expected = finder.kneighbors(embeddings.double().numpy(), return_distance=False)[:, 0]
    found = nearest_neighbours(embeddings.to(device), reference.to(device))
    assert found.tolist() == expected.tolist() and found.device.type == device
    labels, other_labels = np.arange(201) % 2, np.arange(153) % 3 % 2
    score = recall_at_1(embeddings.to(device), labels, reference.to(device), torch.tensor(other_labels))
    assert score == pytest.approx((other_labels[expected] == labels).mean(), abs=1e-12)


POINTS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(st.integers(-2, 2), min_size=width, max_size=width), min_size=4, max_size=25)
)


@settings(deadline=None, max_examples=60)
@given(POINTS, st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]), st.integers(2, 4))
def test_duplicates_ties_and_excluded_groups(points, dtype, count):
    embeddings, groups = torch.tensor(points, dtype=dtype), [i % count for i in range(len(points))]
    assert nearest_neighbours(embeddings).tolist() == loop(points)
    names = np.array([f"Deepfakes/{g}" for g in groups], object)
    expected = loop(points, exclude=groups)
    assert nearest_neighbours(embeddings, exclude=names).tolist() == expected
    assert nearest_neighbours(embeddings, exclude=torch.tensor(groups)).tolist() == expected
    others = [(g + 1) % count for g in groups]
    found = nearest_neighbours(embeddings, embeddings.clone(), exclude=groups, reference_exclude=others)
    assert found.tolist() == loop(points, points, groups, others)


@pytest.mark.parametrize(
    ("offset", "step", "dtype", "signs"),
    [
        (1e4, 2**-10, torch.float32, (1, 1)),
        (2.0**45, 1, torch.float64, (1, 1)),
        # No centre helps here: the products of the larger offset carry no digit of the differences, in float64 either.
        (2.0**22, 1, torch.float32, (1, -1)),
        (2.0**45, 1, torch.float64, (1, -1)),
    ],
)
def test_tiny_differences_on_large_offsets(offset, step, dtype, signs, device):
    points = torch.randint(-8, 9, (150, 6), generator=torch.Generator().manual_seed(0))
    sign = torch.tensor(signs).repeat(75)[:, None]
    embeddings = (sign * offset + points.double() * step).to(dtype).to(device)
    expected = loop((sign * 10**6 + points).tolist())
    assert nearest_neighbours(embeddings).tolist() == expected
    naive = embeddings.square().sum(1) - 2 * embeddings @ embeddings.T
    assert naive.fill_diagonal_(torch.inf).argmin(1).tolist() != expected  # or the test shows nothing


def test_sums_that_differ_by_their_order_are_ties():
    # All at the same distance from the first: permutations of the same differences.
    step, generator = make(200, dtype=torch.float64), torch.Generator().manual_seed(0)
    rows = torch.stack([step[torch.randperm(200, generator=generator)] for _ in range(50)])
    assert len(rows.square().sum(1).unique()) > 1
    assert nearest_neighbours(torch.zeros(1, 200), rows).item() == 0
    assert nearest_neighbours(torch.zeros(1, 200), rows.flip(0)).item() == 0


def test_collapsed_embeddings(device):
    embeddings = torch.full((500, 8), 0.1, device=device)
    assert nearest_neighbours(embeddings).tolist() == [1] + [0] * 499
    embeddings[250:] = -3e30
    assert nearest_neighbours(embeddings).tolist() == [1] + [0] * 249 + [251] + [250] * 249


def test_inputs_stay_as_they_are_without_gradient_or_autocast():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        embeddings = make(30, 4).to(dtype)
        before = embeddings.clone()
        expected = nearest_neighbours(embeddings.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = nearest_neighbours(embeddings.clone().requires_grad_())
        assert found.equal(expected) and not found.requires_grad
        assert nearest_neighbours(embeddings).equal(expected) and embeddings.equal(before)


def test_frames_of_a_video_find_each_other():
    # Embeddings that know the video and nothing of the class: the plain figure is perfect, the excluded one is chance.
    generator = torch.Generator().manual_seed(0)
    videos = torch.arange(400).repeat_interleave(4)
    embeddings = torch.randn(400, 8, generator=generator)[videos]
    embeddings += 0.01 * torch.randn(embeddings.shape, generator=generator)
    labels = torch.randint(2, (400,), generator=generator)[videos]
    assert recall_at_1(embeddings, labels) == 1
    assert recall_at_1(embeddings, labels, exclude=videos) == pytest.approx(0.5, abs=0.1)


def test_errors():
    x = make(4, 3)
    nan = x.clone()
    nan[2, 1] = float("nan")
    for message, arguments, options in [
        (r"float32 \(4,\); expected a floating-point tensor \(N, D\)", (x[:, 0], [0] * 4), {}),
        ("float32 .*expected a floating-point tensor", (x.numpy(), [0] * 4), {}),
        ("int64 .*expected a floating-point", (x.long(), [0] * 4), {}),
        (r"\(0, 3\); expected", (x[:0], []), {}),
        (r"labels are \(3,\) for 4 samples", (x, [0] * 3), {}),
        ("go together; expected both or neither", (x, [0] * 4, x.clone()), {}),
        ("reference is other samples", (x, [0] * 4, x, [0] * 4), {}),
        (r"\(4, 3\), reference \(4, 2\); expected one width", (x, [0] * 4, x[:, :2], [0] * 4), {}),
        ("exclude and reference_exclude go together", (x, [0] * 4), {"reference_exclude": [0] * 4}),
        ("exclude and reference_exclude go together", (x, [0] * 4, x.clone(), [0] * 4), {"exclude": [0] * 4}),
        (r"exclude are \(2,\) for 4", (x, [0] * 4), {"exclude": [0] * 2}),
        ("sample 2 has no admissible neighbour", (x[:3], [0] * 3, x[:2].clone(), [0] * 2),
         {"exclude": [0, 1, 9], "reference_exclude": [9, 9]}),
        ("sample 0 has no admissible neighbour", (x[:1], [0]), {}),
        ("embeddings hold NaN, infinity", (nan, [0] * 4), {}),
        ("reference hold NaN, infinity", (x, [0] * 4, nan, [0] * 4), {}),
        ("beyond 1e150", (x.double() * 1e200, [0] * 4), {}),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            recall_at_1(*arguments, **options)
