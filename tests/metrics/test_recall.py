import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch.overrides import TorchFunctionMode

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


@pytest.mark.parametrize("block", [None, 1, 7, 64, 1000])
def test_against_scikit_learn(block, device):
    embeddings, reference = make(201, 16), make(153, 16, seed=1)
    finder = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(embeddings.double().numpy())
    expected = finder.kneighbors(embeddings.double().numpy(), return_distance=False)[:, 1]
    assert nearest_neighbours(embeddings.to(device), block=block).tolist() == expected.tolist()
    finder = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(reference.double().numpy())
    expected = finder.kneighbors(embeddings.double().numpy(), return_distance=False)[:, 0]
    found = nearest_neighbours(embeddings.to(device), reference.to(device), block=block)
    assert found.tolist() == expected.tolist() and found.device.type == device
    labels, other_labels = np.arange(201) % 2, np.arange(153) % 3 % 2
    score = recall_at_1(embeddings.to(device), labels, reference.to(device), torch.tensor(other_labels), block=block)
    assert score == pytest.approx((other_labels[expected] == labels).mean(), abs=1e-12)


POINTS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(st.integers(-2, 2), min_size=width, max_size=width), min_size=4, max_size=25)
)


@settings(deadline=None, max_examples=60)
@given(POINTS, st.integers(1, 30), st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
def test_duplicates_and_ties(points, block, dtype):
    embeddings = torch.tensor(points, dtype=dtype)
    assert nearest_neighbours(embeddings, block=block).tolist() == loop(points)
    half = len(points) // 2
    assert nearest_neighbours(embeddings[:half], embeddings[half:], block=block).tolist() == loop(
        points[:half], points[half:]
    )


@settings(deadline=None, max_examples=50)
@given(POINTS, st.integers(2, 4))
def test_excluded_groups(points, count):
    embeddings, groups = torch.tensor(points, dtype=torch.float32), [i % count for i in range(len(points))]
    names = np.array([f"Deepfakes/{g}" for g in groups], object)
    expected = loop(points, exclude=groups)
    assert nearest_neighbours(embeddings, exclude=names, block=3).tolist() == expected
    assert nearest_neighbours(embeddings, exclude=torch.tensor(groups)).tolist() == expected
    others = [(g + 1) % count for g in groups]
    assert nearest_neighbours(
        embeddings, embeddings.clone(), exclude=groups, reference_exclude=others
    ).tolist() == loop(points, points, groups, others)


def naive(embeddings):
    """What float32 alone makes of it."""
    squares = embeddings.square().sum(1)
    distances = squares[:, None] + squares - 2 * embeddings @ embeddings.T
    return distances.fill_diagonal_(torch.inf).argmin(1)


@pytest.mark.parametrize(
    ("offset", "step", "dtype"),
    [(1e4, 2**-10, torch.float32), (2.0**23, 1, torch.float32), (2.0**45, 1, torch.float64)],
)
def test_tiny_differences_on_a_large_offset(offset, step, dtype, device):
    points = torch.randint(-8, 9, (150, 6), generator=torch.Generator().manual_seed(0))
    embeddings = (offset + points.double() * step).to(dtype).to(device)
    expected = loop(points.tolist())
    assert nearest_neighbours(embeddings, block=13).tolist() == expected
    if dtype == torch.float32:
        assert naive(embeddings).tolist() != expected  # or the test shows nothing


def test_a_common_offset_costs_no_differences(monkeypatch):
    pairs, differences = [], recall._differences
    monkeypatch.setattr(
        recall, "_differences", lambda q, row, *rest: pairs.append(len(row)) or differences(q, row, *rest)
    )
    nearest_neighbours(make(300, 16, dtype=torch.float64) + 1e8)
    assert sum(pairs) == 0


@pytest.mark.parametrize(("offset", "dtype"), [(2**22, torch.float32), (2**45, torch.float64)])
def test_two_distant_tight_clusters(offset, dtype, device):
    # No centre helps here: the products of the larger offset carry no digit of the differences, in float64 either.
    points = torch.randint(-8, 9, (150, 6), generator=torch.Generator().manual_seed(0))
    points[::2] += offset
    points[1::2] -= offset
    embeddings = points.to(dtype).to(device)
    assert embeddings.long().equal(points.to(device))
    expected = loop(points.tolist())
    for block in (None, 1, 37):
        assert nearest_neighbours(embeddings, block=block).tolist() == expected
    assert recall_at_1(embeddings, torch.arange(150) % 2) == 1


def test_sums_that_differ_by_their_order_are_ties():
    # All at the same distance from the first: permutations of the same differences.
    step = make(200, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack([step[torch.randperm(200, generator=generator)] for _ in range(50)])
    embeddings = torch.cat([torch.zeros(1, 200), rows])
    assert len(embeddings.square().sum(1).unique()) > 2
    assert nearest_neighbours(embeddings[:1], embeddings[1:]).item() == 0
    assert nearest_neighbours(embeddings[:1], embeddings[1:].flip(0)).item() == 0


def test_a_sample_never_finds_itself_but_its_duplicate():
    embeddings = torch.tensor([[0.0], [5.0], [5.0], [0.1]])
    assert nearest_neighbours(embeddings).tolist() == [3, 2, 1, 0]
    assert recall_at_1(embeddings, [0, 1, 0, 0]) == 0.5


def test_collapsed_embeddings(device):
    embeddings = torch.full((500, 8), 0.1, device=device)
    assert nearest_neighbours(embeddings).tolist() == [1] + [0] * 499
    embeddings[250:] = -3e30
    assert nearest_neighbours(embeddings).tolist() == [1] + [0] * 249 + [251] + [250] * 249


def test_half_precision_is_taken_as_it_is(device):
    embeddings = make(100, 12)
    for dtype in (torch.float16, torch.bfloat16):
        low = embeddings.to(dtype).to(device)
        assert nearest_neighbours(low).equal(nearest_neighbours(low.double()))


@pytest.mark.parametrize("move", [lambda x: x * 2**40, lambda x: x * 2**-40, lambda x: x.flip(1), lambda x: -x])
def test_invariances(move):
    embeddings = make(80, 5)
    assert nearest_neighbours(move(embeddings)).equal(nearest_neighbours(embeddings))


def test_order_of_the_samples():
    embeddings, order = make(80, 5), torch.randperm(80, generator=torch.Generator().manual_seed(3))
    assert order[nearest_neighbours(embeddings[order])].equal(nearest_neighbours(embeddings)[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_inputs_stay_as_they_are(dtype):
    embeddings, reference = make(30, 4).to(dtype), make(30, 4, seed=1).to(dtype)
    before = embeddings.clone(), reference.clone()
    nearest_neighbours(embeddings)
    nearest_neighbours(embeddings, reference)
    assert embeddings.equal(before[0]) and reference.equal(before[1])


def test_no_gradient_and_no_autocast():
    embeddings = make(50, 6)
    expected = nearest_neighbours(embeddings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nearest_neighbours(embeddings.clone().requires_grad_())
    assert found.equal(expected) and not found.requires_grad
    with torch.inference_mode():
        assert nearest_neighbours(make(50, 6)).equal(expected)


class Largest(TorchFunctionMode):
    """Notes the most elements that any operation returned."""

    elements = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("collapsed", [False, True])
def test_memory_is_flat_in_n(monkeypatch, collapsed):
    monkeypatch.setattr(recall, "ELEMENTS", 2**12)
    for samples in (600, 1200):  # times 8: more than the limit
        embeddings = make(samples, 8)
        if collapsed:  # two clusters, so tight that most pairs go through their differences
            embeddings = 2.0**45 * (embeddings[:, :1].double() > 0) + embeddings.round()
        with Largest() as largest:
            found = nearest_neighbours(embeddings, exclude=np.arange(samples) // 2)
        # Pairs are found as rows and columns of one matrix, hence twice.
        assert largest.elements <= 2**12 * (2 if collapsed else 1)
    assert found.equal(nearest_neighbours(embeddings, exclude=np.arange(samples) // 2, block=samples))


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
    cases = [
        (r"\(4,\), expected a tensor \(N, D\)", (x[:, 0], [0] * 4), {}),
        ("ndarray, expected a tensor", (x.numpy(), [0] * 4), {}),
        (r"torch.int64, expected floating-point.*\.float\(\)", (x.long(), [0] * 4), {}),
        (r"\(0, 3\), expected no empty axis", (x[:0], []), {}),
        (r"labels are \(3,\) for 4 samples", (x, [0] * 3), {}),
        ("labels are float64, expected integers", (x, [0.0] * 4), {}),
        ("go together", (x, [0] * 4, x.clone()), {}),
        ("go together", (x, [0] * 4, None, [0] * 4), {}),
        ("would find itself", (x, [0] * 4, x, [0] * 4), {}),
        (r"\(4, 3\) and reference \(4, 2\); expected one width", (x, [0] * 4, x[:, :2], [0] * 4), {}),
        (r"reference_labels are \(4,\) for 2 samples", (x, [0] * 4, x[:2], [0] * 4), {}),
        ("reference_exclude is given without reference", (x, [0] * 4), {"reference_exclude": [0] * 4}),
        ("expected both", (x, [0] * 4, x.clone(), [0] * 4), {"exclude": [0] * 4}),
        (r"exclude are \(2,\) for 4", (x, [0] * 4), {"exclude": [0] * 2}),
        ("sample 2 has no admissible neighbour", (x, [0] * 4), {"exclude": [0, 0, 1, 1], "block": 1, "only": [2, 3]}),
        ("sample 0 has no admissible neighbour", (x, [0] * 4), {"exclude": [0] * 4}),
        ("sample 0 has no admissible neighbour", (x[:1], [0]), {}),
        ("block is 0", (x, [0] * 4), {"block": 0}),
        ("block is 1.5", (x, [0] * 4), {"block": 1.5}),
    ]
    for message, arguments, options in cases:
        if options.pop("only", None):
            arguments, options = (x[:3], [0] * 3), {"exclude": [0, 1, 2], "block": 1}
            assert 0 <= recall_at_1(*arguments, **options) <= 1
            continue
        with pytest.raises(ValueError, match=message):
            recall_at_1(*arguments, **options)
    for bad in (float("nan"), float("inf"), -float("inf")):
        broken = x.clone()
        broken[2, 1] = bad
        with pytest.raises(ValueError, match="embeddings hold NaN, infinity"):
            nearest_neighbours(broken)
        with pytest.raises(ValueError, match="embeddings hold NaN, infinity"):
            nearest_neighbours(broken, x, block=1)
        with pytest.raises(ValueError, match="reference hold NaN, infinity"):
            nearest_neighbours(x, broken)
    with pytest.raises(ValueError, match="beyond 1e150"):
        nearest_neighbours(x.double() * 1e200)


def test_the_first_sample_without_neighbour_is_named():
    x = make(5, 3)
    with pytest.raises(ValueError, match="sample 3 has no admissible"):
        nearest_neighbours(x, x[:2].clone(), exclude=[0, 1, 2, 9, 9], reference_exclude=[9, 9], block=2)
