import numpy as np
import ot
import pytest
import torch

from addlib import losses


@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (1, 5, 1, 1), (2, 1, 4, 3), (2, 2, 5, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("coordinates", ["index", "unit"])
@pytest.mark.parametrize("bins", [1, 2, 7])
def test_attention_matches_the_loops(shape, coordinates, bins, maps, oracle, device):
    """With a gradient, in plain operations, and without, by the plan."""
    features, _ = maps(shape, device=device)
    directions = losses.random_directions(4)
    expected = oracle.attention(features.detach().cpu().numpy(), directions.numpy(), bins, coordinates)
    for given in (features, features.detach()):
        found = losses.sliced_attention(given, directions, bins, coordinates=coordinates)
        assert found.shape == (shape[0], 4, bins) and found.requires_grad == given.requires_grad
        np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("coordinates", ["index", "unit"])
def test_grid_and_bins_match_the_loops(coordinates, oracle):
    directions = losses.random_directions(5)
    projected = losses.project_grid((4, 3, 5), directions, coordinates=coordinates)
    bins = losses.bin_indices(projected, 6)
    assert projected.shape == bins.shape == (5, 4, 3, 5) and bins.dtype == torch.int64
    for k, direction in enumerate(directions.numpy()):
        expected = oracle.projections((4, 3, 5), direction, coordinates)
        low, high = min(expected.values()), max(expected.values())
        for point, value in expected.items():
            assert projected[(k, *point)].item() == pytest.approx(value, abs=1e-14)
            assert bins[(k, *point)].item() == oracle.bin_of(value, low, high, 6)


@pytest.mark.parametrize(("scale", "mass"), [(1e300, 1), (1e-11, 1), (1e-12, None), (1e-200, 0), (0, 0)])
def test_mass_is_one_and_fades_for_tiny_maps(scale, mass, maps, device):
    features, _ = maps((2, 4, 3, 3), device=device, scale=scale)
    total = losses.sliced_attention(features, losses.random_directions(3), 4).sum(2)
    if mass is None:
        assert (total > 0).all() and (total <= 1 + 1e-12).all()
    else:
        torch.testing.assert_close(total, torch.full_like(total, mass))
    assert torch.isfinite(torch.autograd.grad(total.sum(), features)[0]).all()


def test_directions_are_unit_uniform_and_repeatable():
    first = losses.random_directions(20000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, losses.random_directions(20000, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(20000, dtype=torch.float64))
    # On a sphere every coordinate is uniform on [-1, 1].
    quantiles = first.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
    expected = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)[:, None].expand(3, 3)
    torch.testing.assert_close(quantiles, expected, rtol=0, atol=0.02)


def test_values_on_edges_go_up_whatever_the_rounding():
    """50 positions a 49th apart in 49 bins: each but the last on its own edge, although 1 / 49 * 49 < 1 on a computer."""
    projected = losses.project_grid((1, 1, 50), torch.tensor([[0.0, 0.0, 1.0]]), coordinates="unit")
    assert losses.bin_indices(projected, 49).flatten().tolist() == [*range(49), 48]
    # And with more bins than int16 holds.
    features = torch.rand(1, 40000, 1, 1)
    found = losses.sliced_attention(features, torch.tensor([[1.0, 0.0, 0.0]]), 40000).flatten()
    torch.testing.assert_close(found, (features.square() / features.square().sum()).flatten())


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("coordinates", ["index", "unit"])
def test_sliced_distance_matches_pot(p, coordinates, maps, device):
    first, second = maps((2, 5, 4, 3), device=device)
    directions = losses.random_directions(6)
    found = losses.sliced_wasserstein(first, second, directions, p=p, coordinates=coordinates)
    views = losses.sliced_wasserstein(first, second, directions, p=p, coordinates=coordinates, reduction="none")
    torch.testing.assert_close(views.mean(1) ** (1 / p), found)
    steps = [np.arange(n) / (n - 1 if coordinates == "unit" else 1) for n in (5, 4, 3)]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    for b in range(2):
        squares = [features[b].detach().square().flatten().cpu().numpy() for features in (first, second)]
        masses = [square / square.sum() for square in squares]
        expected = ot.sliced_wasserstein_distance(grid, grid, *masses, projections=directions.numpy().T, p=p)
        assert found[b].item() == pytest.approx(float(expected), rel=1e-9)


MAP, UNIT = torch.zeros(2, 3, 4, 4), torch.tensor([[1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: losses.sliced_attention(MAP[0], UNIT, 2), r"features is \(3, 4, 4\) torch.float32"),
        (lambda: losses.sliced_attention(MAP, UNIT[0], 2), r"directions are \(3,\).*expected unit rows \(K, 3\)"),
        (lambda: losses.sliced_attention(MAP, 2 * UNIT, 2), "expected unit rows"),
        (lambda: losses.sliced_attention(MAP, UNIT, 0), "bins is 0, expected a whole number of at least 1"),
        (lambda: losses.sliced_attention(MAP, UNIT, 2, coordinates="pixels"), "coordinates is 'pixels'"),
        (lambda: losses.sliced_wasserstein(MAP, MAP, UNIT, p=3), "p is 3, expected one of 1, 2"),
        (lambda: losses.sliced_wasserstein(MAP, MAP[..., :2], UNIT), "first and second differ"),
    ],
)
def test_errors_name_the_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()


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
        result = losses.wasserstein_1d(torch.from_numpy(positions), *tensors, p=p).item()
        assert result == pytest.approx(float(expected), rel=1e-9, abs=1e-14)
        assert result == pytest.approx(exact, rel=1e-7, abs=1e-12)


def test_axes_are_channel_dim2_and_dim3_attention(maps):
    """(1, 0, 0), (0, 1, 0), (0, 0, 1) with a bin for each index give the marginals of the mass."""
    features, _ = maps((3, 5, 4, 6))
    mass = features.detach().double().square()
    mass /= mass.sum((1, 2, 3), keepdim=True)
    for axis, length, others in ((0, 5, (2, 3)), (1, 4, (1, 3)), (2, 6, (1, 2))):
        for sign in (1, -1):
            direction = torch.zeros(1, 3)
            direction[0, axis] = sign
            view = losses.sliced_attention(features.detach(), direction, length)[:, 0]
            expected = mass.sum(others)
            torch.testing.assert_close(view, expected if sign == 1 else expected.flip(1))
            view = losses.sliced_attention(features.detach(), direction, length, coordinates="unit")[:, 0]
            torch.testing.assert_close(view, expected if sign == 1 else expected.flip(1))


def test_binned_distance_is_not_a_transport_cost():
    """Moving a mass by two bins or by ten changes the binned squared difference not at all, the true distance does."""
    maps = torch.zeros(3, 24, 1, 1)
    maps[0, 0], maps[1, 4], maps[2, 20] = 1.0, 1.0, 1.0
    direction = torch.tensor([[1.0, 0.0, 0.0]])
    views = losses.sliced_attention(maps, direction, 12)[:, 0]
    near, far = ((views[0] - views[i]).square().sum().item() for i in (1, 2))
    assert near == far == 2
    true = losses.sliced_wasserstein(maps[:1].expand(2, -1, -1, -1), maps[1:], direction)
    torch.testing.assert_close(true, torch.tensor([4.0, 20.0], dtype=torch.float64))
