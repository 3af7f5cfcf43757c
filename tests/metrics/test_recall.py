import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from addlib.metrics import nearest_neighbours, recall, recall_at_1

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]


def make(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loop(embeddings, reference=None, exclude=None, reference_exclude=None):
    """Nearest neighbours of integer points in Python's own integers: no rounding, the lowest index of several."""
    own = reference is None
    others, other_groups = (embeddings, exclude) if own else (reference, reference_exclude)
    found = []
    for i, a in enumerate(embeddings):
        allowed = [j for j in range(len(others)) if not (own and i == j or exclude and exclude[i] == other_groups[j])]
        found.append(min(allowed, key=lambda j: (sum((x - y) ** 2 for x, y in zip(a, others[j], strict=True)), j)))
    return found


@pytest.mark.parametrize("device", DEVICES)
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
    assert nearest_neighbours(embeddings, exclude=names).tolist() == loop(points, exclude=groups)
    others = [(g + 1) % count for g in groups]
    found = nearest_neighbours(embeddings, embeddings.clone(), torch.tensor(groups), others)
    assert found.tolist() == loop(points, points, groups, others)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("offset", "step", "dtype", "signs"),
    [
        (1e4, 2**-10, torch.float32, (1, 1)),
        # No centre helps here: the products of the larger offset carry no digit of the differences, in float64 either.
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_inputs_stay_as_they_are_without_gradient_or_autocast(dtype):
    embeddings = make(30, 4).to(dtype)
    before = embeddings.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nearest_neighbours(embeddings.requires_grad_())
    assert found.equal(nearest_neighbours(before.double())) and not found.requires_grad and embeddings.equal(before)
    collapsed = torch.full((500, 8), -3e4, dtype=dtype)
    assert nearest_neighbours(collapsed).tolist() == [1] + [0] * 499


def test_errors():
    x, y = make(4, 3), [0] * 4
    assert recall_at_1(x.numpy(), y) == 1
    for message, arguments, options in (
        (r"\(4,\); expected finite numbers \(N, D\)", (x[:, 0], y), {}),
        ("expected finite numbers", (x * torch.nan, y), {}),
        (r"labels are \(3,\) for 4 samples", (x, y[:3]), {}),
        ("reference is other samples", (x, y, x, y), {}),
        ("exclude and reference_exclude go together", (x, y, x.clone(), y), {"exclude": y}),
        ("sample 0 has no admissible neighbour", (x, y), {"exclude": y}),
    ):
        with pytest.raises(ValueError, match=message):
            recall_at_1(*arguments, **options)
