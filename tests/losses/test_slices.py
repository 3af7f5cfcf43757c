import math

import numpy as np
import ot
import pytest
import torch

from addlib.losses import (
    bin_indices,
    project_grid,
    random_directions,
    sliced_attention,
    sliced_wasserstein,
    wasserstein_1d,
)

SHAPES = [(2, 6, 3, 4), (3, 4, 4, 4), (1, 5, 1, 1), (2, 1, 4, 3), (2, 2, 5, 1), (1, 1, 1, 1)]


def mass_of(features):
    squares = features.detach().double() ** 2
    return squares / squares.sum((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("coordinates", ["index", "unit"])
@pytest.mark.parametrize("bins", [1, 2, 3, 7])
def test_attention_matches_the_loops(shape, coordinates, bins, maps, oracle, device):
    features, _ = maps(shape, device=device)
    directions = random_directions(4)
    result = sliced_attention(features, directions, bins, coordinates=coordinates)
    expected = oracle.attention(features.detach().cpu().numpy(), directions.numpy(), bins, coordinates)
    assert result.shape == (shape[0], 4, bins)
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("coordinates", ["index", "unit"])
def test_grid_and_bins_match_the_loops(coordinates, oracle):
    directions = random_directions(5)
    projected = project_grid((4, 3, 5), directions, coordinates=coordinates)
    bins = bin_indices(projected, 6)
    assert projected.shape == bins.shape == (5, 4, 3, 5)
    for k, direction in enumerate(directions.numpy()):
        expected = oracle.projections((4, 3, 5), direction, coordinates)
        low, high = min(expected.values()), max(expected.values())
        for point, value in expected.items():
            assert projected[(k, *point)].item() == pytest.approx(value, abs=1e-14)
            assert bins[(k, *point)].item() == oracle.bin_of(value, low, high, 6)


def test_axes_are_channel_dim2_and_dim3_attention(maps):
    """(1, 0, 0), (0, 1, 0), (0, 0, 1) with a bin for each index give the marginals of the mass."""
    features, _ = maps((3, 5, 4, 6))
    mass = mass_of(features)
    for axis, length, others in ((0, 5, (2, 3)), (1, 4, (1, 3)), (2, 6, (1, 2))):
        for sign in (1, -1):
            direction = torch.zeros(1, 3)
            direction[0, axis] = sign
            view = sliced_attention(features.detach(), direction, length)[:, 0]
            expected = mass.sum(others)
            torch.testing.assert_close(view, expected if sign == 1 else expected.flip(1))
            view = sliced_attention(features.detach(), direction, length, coordinates="unit")[:, 0]
            torch.testing.assert_close(view, expected if sign == 1 else expected.flip(1))


def test_gradients(maps, device):
    features, _ = maps((2, 4, 3, 3), device=device)
    features = features.detach().add_(0.1).requires_grad_()
    directions = random_directions(3)

    def attend(x):
        return sliced_attention(x, directions, 4)

    assert torch.autograd.gradcheck(attend, features, fast_mode=device == "cuda")
    assert torch.autograd.gradgradcheck(attend, features, fast_mode=device == "cuda")


def test_closed_form_gradient_matches_autograd(maps, device):
    features, _ = maps((5, 8, 4, 4), device=device)
    directions = random_directions(3)
    slopes = torch.randn(5, 3, 6, dtype=torch.float64, device=device)
    (gradient,) = torch.autograd.grad(sliced_attention(features, directions, 6), features, slopes)
    index = bin_indices(project_grid((8, 4, 4), directions), 6).flatten(1).to(device)
    mass = (features**2 / (features**2).sum((1, 2, 3), keepdim=True)).flatten(1)
    onehot = torch.nn.functional.one_hot(index, 6).double()  # (K, N, bins)
    (expected,) = torch.autograd.grad(torch.einsum("bn,knj->bkj", mass, onehot), features, slopes)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), None])
def test_float32_is_close_to_float64(direction, maps, device):
    """Also where a bin sums thousands of elements."""
    features, _ = maps((3, 512, 16, 16), dtype=torch.float32, device=device)
    directions = random_directions(2) if direction is None else torch.tensor([direction])
    slopes = torch.randn(3, len(directions), 256, device=device)
    result = sliced_attention(features, directions, 256)
    (gradient,) = torch.autograd.grad(result, features, slopes)
    precise = features.detach().double().cpu().requires_grad_()
    expected = sliced_attention(precise, directions, 256)
    (slope,) = torch.autograd.grad(expected, precise, slopes.double().cpu())
    torch.testing.assert_close(result.double().cpu(), expected, rtol=2e-5, atol=1e-9)
    torch.testing.assert_close(gradient.double().cpu(), slope, rtol=1e-4, atol=1e-6 * float(slope.abs().max()))


def test_zero_map_has_no_mass_and_no_gradient(device):
    features = torch.zeros(2, 4, 3, 3, device=device, requires_grad=True)
    result = sliced_attention(features, random_directions(3), 4)
    assert not result.any()
    assert not torch.autograd.grad(result.sum(), features)[0].any()


def test_small_maps_fade():
    """Below the smallest peak the mass goes down with the square of the map, without a jump."""
    features = torch.rand(1, 4, 3, 3, dtype=torch.float64)
    features /= features.amax()
    total = [float(sliced_attention(features * peak, random_directions(1), 4).sum()) for peak in (1e-11, 1e-13)]
    assert total[0] == pytest.approx(1)
    assert total[1] == pytest.approx(1e-2 * float(features.square().sum()), rel=1e-6)


def test_directions_are_unit_uniform_and_repeatable():
    first = random_directions(20000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, random_directions(20000, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(20000, dtype=torch.float64))
    # On a sphere every coordinate is uniform on [-1, 1].
    assert first.mean(0).abs().max() < 0.02
    quantiles = first.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
    expected = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)[:, None].expand(3, 3)
    torch.testing.assert_close(quantiles, expected, rtol=0, atol=0.02)


def test_index_coordinates_make_channel_views_and_unit_coordinates_do_not():
    """The channels' share of a projected range, in the mean over directions: nearly all of it against a third."""
    directions = random_directions(2000)
    for coordinates, extent, low, high in (("index", (2047, 3, 3), 0.95, 1), ("unit", (1, 1, 1), 0.32, 0.345)):
        reach = directions.abs() * torch.tensor(extent)
        projected = project_grid((2048, 4, 4), directions[:3], coordinates=coordinates).flatten(1)
        torch.testing.assert_close(projected.amax(1) - projected.amin(1), reach[:3].sum(1))
        assert low < (reach[:, 0] / reach.sum(1)).mean() < high


def test_values_on_edges_go_up_whatever_the_rounding():
    """16 positions a fifteenth apart in 15 bins: each but the last on its own edge."""
    projected = project_grid((1, 1, 16), torch.tensor([[0.0, 0.0, 1.0]]), coordinates="unit")
    assert bin_indices(projected, 15).flatten().tolist() == [*range(15), 14]


def test_more_bins_than_int16_holds():
    projected = torch.linspace(0, 1, 70000, dtype=torch.float64)[None]
    expected = [min(i * 70000 // 69999, 69999) for i in range(70000)]
    assert bin_indices(projected, 70000)[0].tolist() == expected


# --- Wasserstein distances ---


@pytest.mark.parametrize("p", [1, 2])
def test_one_dimension_matches_pot(p):
    generator = np.random.default_rng(0)
    for count in (1, 2, 50):
        positions = np.sort(generator.normal(size=count))
        masses = generator.random((2, count)) * (generator.random((2, count)) < 0.7) + 1e-9
        masses /= masses.sum(1, keepdims=True)
        expected = ot.wasserstein_1d(positions, positions, masses[0], masses[1], p=p)
        exact = ot.emd2(masses[0], masses[1], np.abs(positions[:, None] - positions) ** p)
        tensors = (torch.from_numpy(m)[None] for m in masses)
        result = wasserstein_1d(torch.from_numpy(positions), *tensors, p=p).item()
        assert result == pytest.approx(float(expected), rel=1e-9, abs=1e-14)
        assert result == pytest.approx(exact, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("coordinates", ["index", "unit"])
def test_sliced_distance_matches_pot(p, coordinates, maps, device):
    first, second = maps((2, 5, 4, 3), device=device)
    directions = random_directions(6)
    result = sliced_wasserstein(first, second, directions, p=p, coordinates=coordinates)
    steps = [np.arange(n) / (n - 1 if coordinates == "unit" else 1) for n in (5, 4, 3)]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    for b in range(2):
        masses = [mass_of(features)[b].flatten().cpu().numpy() for features in (first, second)]
        expected = ot.sliced_wasserstein_distance(grid, grid, *masses, projections=directions.numpy().T, p=p)
        assert result[b].item() == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("p", [1, 2])
def test_distance_between_points_is_the_mean_projected_shift(p):
    """All mass on one element each: every view costs the projected difference to the power p."""
    first, second = torch.zeros(1, 4, 5, 6), torch.zeros(1, 4, 5, 6)
    first[0, 1, 1, 1], second[0, 3, 0, 4] = -3.0, 0.5
    directions = random_directions(200)
    apart = (directions @ torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)).abs() ** p
    views = sliced_wasserstein(first, second, directions, p=p, reduction="none")
    torch.testing.assert_close(views[0], apart)
    torch.testing.assert_close(sliced_wasserstein(first, second, directions, p=p)[0], apart.mean() ** (1 / p))


@pytest.mark.parametrize("p", [1, 2])
def test_distance_is_differentiable(p, maps):
    first, second = (m.detach() + 0.1 for m in maps((2, 3, 2, 2)))
    directions = random_directions(2)
    assert torch.autograd.gradcheck(
        lambda x, y: sliced_wasserstein(x, y, directions, p=p), (first.requires_grad_(), second.requires_grad_())
    )


def test_binned_distance_is_not_a_transport_cost():
    """Moving a mass by two bins or by ten changes the binned squared difference not at all, the true distance does."""
    maps = torch.zeros(3, 24, 1, 1)
    maps[0, 0], maps[1, 4], maps[2, 20] = 1.0, 1.0, 1.0
    direction = torch.tensor([[1.0, 0.0, 0.0]])
    views = sliced_attention(maps, direction, 12)[:, 0]
    near, far = ((views[0] - views[i]).square().sum().item() for i in (1, 2))
    assert near == far == 2
    true = sliced_wasserstein(maps[:1].expand(2, -1, -1, -1), maps[1:], direction)
    torch.testing.assert_close(true, torch.tensor([4.0, 20.0], dtype=torch.float64))


# --- errors ---

UNIT = torch.tensor([[1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("features", "directions", "bins", "coordinates", "words"),
    [
        (torch.zeros(2, 3, 4), UNIT, 2, "index", r"features has shape \(2, 3, 4\), expected \(B, C, H, W\)"),
        (torch.zeros(2, 3, 4, 4).long(), UNIT, 2, "index", r"torch.int64.*\.float\(\)"),
        (torch.zeros(2, 3, 4, 4), UNIT[0], 2, "index", r"directions are \(3,\), expected a tensor \(K, 3\)"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(4, 2), 2, "index", r"\(4, 2\).*random_directions"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(0, 3), 2, "index", r"\(0, 3\)"),
        (torch.zeros(2, 3, 4, 4), [[1, 0, 0]], 2, "index", "directions are list"),
        (torch.zeros(2, 3, 4, 4), 2 * UNIT, 2, "index", r"lengths from 2 to 2 .*divide by"),
        (torch.zeros(2, 3, 4, 4), UNIT * math.nan, 2, "index", "lengths from nan"),
        (torch.zeros(2, 3, 4, 4), UNIT.int(), 2, "index", "torch.int32"),
        (torch.zeros(2, 3, 4, 4), UNIT, 0, "index", "bins is 0, expected at least 1"),
        (torch.zeros(2, 3, 4, 4), UNIT, 2, "pixels", "coordinates is 'pixels', expected one of 'index', 'unit'"),
    ],
)
def test_errors_name_the_remedy(features, directions, bins, coordinates, words):
    with pytest.raises(ValueError, match=words):
        sliced_attention(features, directions, bins, coordinates=coordinates)


def test_other_errors():
    maps = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="views is 0, expected at least 1"):
        random_directions(0)
    with pytest.raises(ValueError, match=r"shape is \(2, 3, 4, 4\), expected \(C, H, W\).*leave the batch axis out"):
        project_grid((2, 3, 4, 4), UNIT)
    with pytest.raises(ValueError, match="p is 3, expected 1 or 2"):
        sliced_wasserstein(maps, maps, UNIT, p=3)
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        sliced_wasserstein(maps, maps, UNIT, reduction="sum")
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) against \(2, 3, 4, 5\); distances need one common grid"):
        sliced_wasserstein(maps, torch.zeros(2, 3, 4, 5), UNIT)
