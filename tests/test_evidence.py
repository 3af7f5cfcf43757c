"""Proofs and measurements that data/claims.yml names as evidence, where no other test file shows them."""

import math
from functools import cmp_to_key
from itertools import product

import numpy as np
import pytest
import torch


def test_counts_of_images():
    assert [videos * 2 * 64 for videos in (720, 140, 140)] == [92160, 17920, 17920]


def test_squared_modulus_violates_the_triangle_inequality():
    def d(one, other):
        return abs(one - other) ** 2

    assert d(0, 2j) > d(0, 1j) + d(1j, 2j)
    numbers = [complex(*pair) for pair in product((-1, 0, 2), repeat=2)]
    assert all(d(a, b) == d(b, a) >= 0 and (d(a, b) == 0) == (a == b) for a, b in product(numbers, repeat=2))
    # Its root has all four properties.
    assert all(d(a, b) ** 0.5 <= d(a, c) ** 0.5 + d(c, b) ** 0.5 + 1e-12 for a, b, c in product(numbers, repeat=3))


def test_weight_does_not_know_which_frequency_it_weighs():
    """Waves of one energy but different frequency, and the same noise with its spectrum turned round."""
    from addlib.losses import frequency_attention

    y, x = torch.meshgrid(*2 * [torch.arange(8, dtype=torch.float64)], indexing="ij")
    found = []
    for u, v in ((1, 0), (3, 2)):
        wave = torch.cos(2 * math.pi * (u * y + v * x) / 8)
        found.append(
            frequency_attention(wave.expand(1, 3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.float64)).weight[0, u, v]
        )
    assert found[0] == pytest.approx(found[1].item(), rel=1e-12) and found[0] > 1
    noise = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = noise * (-1) ** (x + y)  # moves each frequency by half of all: low ones become high ones
    one, other = (frequency_attention(maps, torch.zeros_like(maps)).weight for maps in (noise, turned))
    torch.testing.assert_close(other, one.roll((4, 4), (1, 2)), rtol=1e-10, atol=0)


def test_sum_over_views_grows_and_the_mean_converges():
    """Two points apart by x: the mean of |<x, direction>| over the sphere is |x| / 2, its integral 4 pi times that."""
    from addlib.losses import random_directions, sliced_wasserstein

    first, second = torch.zeros(1, 4, 5, 6), torch.zeros(1, 4, 5, 6)
    first[0, 1, 1, 1] = second[0, 3, 2, 3] = 1.0
    mean = math.dist((1, 1, 1), (3, 2, 3)) / 2
    sums = {}
    for views in (1000, 4000):
        directions = random_directions(views, generator=torch.Generator().manual_seed(0))
        costs = sliced_wasserstein(first, second, directions, reduction="none")
        assert costs.mean().item() == pytest.approx(mean, rel=0.05)
        sums[views] = costs.sum().item()
    assert sums[4000] / sums[1000] == pytest.approx(4, rel=0.05)
    assert min(sums.values()) > 10 * 4 * math.pi * mean


def test_products_of_a_fast_transform():
    """A radix-2 transform of each channel, its products counted: C W H (log W + log H) / 2, and torch's numbers."""
    products = 0

    def transform(values):
        nonlocal products
        if len(values) == 1:
            return values
        even, odd = transform(values[::2]), transform(values[1::2])
        turned = [np.exp(-2j * np.pi * k / len(values)) * z for k, z in enumerate(odd)]
        products += len(turned)
        return [a + b for a, b in zip(even, turned, strict=True)] + [a - b for a, b in zip(even, turned, strict=True)]

    for channels, height, width in ((2, 8, 16), (3, 16, 16)):
        products = 0
        maps = np.random.default_rng(0).normal(size=(channels, height, width))
        rows = np.array([[transform(list(row)) for row in plane] for plane in maps])
        both = np.array([[transform(list(column)) for column in plane.T] for plane in rows]).transpose(0, 2, 1)
        np.testing.assert_allclose(both, torch.fft.fft2(torch.from_numpy(maps)).numpy(), atol=1e-9)
        assert products == channels * height * width * (math.log2(width) + math.log2(height)) / 2


def test_sorted_views_cost_n_log_n_and_bins_need_no_sort():
    """Algorithm 1 with a sort whose comparisons are counted gives the views that a histogram gives."""
    from addlib.losses import random_directions, sliced_attention

    compared = 0

    def compare(a, b):
        nonlocal compared
        compared += 1
        return (a[0] > b[0]) - (a[0] < b[0])

    bins, directions = 5, random_directions(3, generator=torch.Generator().manual_seed(0)).double()
    for shape in ((6, 4, 4), (8, 8, 8)):
        features = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        mass = (features[0] ** 2 / (features**2).sum()).flatten()
        grid = torch.cartesian_prod(*(torch.arange(float(n), dtype=torch.float64) for n in shape))
        views, compared = [], 0
        for direction in directions:
            order = sorted(zip((grid @ direction).tolist(), mass.tolist(), strict=True), key=cmp_to_key(compare))
            low, high = order[0][0], order[-1][0]
            view = [0.0] * bins
            for place, share in order:
                view[min(int((place - low) / (high - low) * bins), bins - 1)] += share
            views.append(view)
        count = math.prod(shape)
        assert compared <= len(directions) * count * math.log2(count)
        found = sliced_attention(features, directions, bins)[0]
        torch.testing.assert_close(found, torch.tensor(views, dtype=torch.float64))


def test_loss_has_no_parameters_and_takes_any_maps():
    from addlib.losses import ADDLoss

    loss = ADDLoss((1.0, 1.0), (1.0, 1.0))
    assert not list(loss.parameters())
    labels = torch.tensor([0, 1, 0, 1])
    for shapes in (((4, 24, 8, 8), (4, 48, 4, 4)), ((4, 6, 7, 5), (4, 728, 2, 2))):
        student = [torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_() for shape in shapes]
        value = loss(student, [torch.ones(shape) for shape in shapes], labels)
        value.backward()
        assert value.isfinite() and all(maps.grad.abs().max() > 0 for maps in student)


def test_small_recall_does_not_mean_small_variation():
    """Points of two classes in turn on a line have Recall@1 zero however far they are spread; drawn together by class, it is one."""
    from addlib.metrics import recall_at_1

    labels = torch.arange(20) % 2
    spread = torch.arange(20.0)[:, None] ** 1.01
    together = 0.01 * spread + 100 * labels[:, None]
    recall = {name: recall_at_1(points, labels) for name, points in (("spread", spread), ("together", together))}
    within = {name: points[labels == 0].std().item() for name, points in (("spread", spread), ("together", together))}
    assert recall == {"spread": 0, "together": 1}
    assert within["spread"] > 50 * within["together"]


def test_compression_takes_most_of_the_high_frequencies_and_most_from_the_others(tree):
    """Real drawn people, raw against c40: loss relative to raw in rings of frequency, and where the lost energy was."""
    from addlib import faceforensics, spectra, video

    raw, c40 = [], []
    for item in faceforensics.discover(tree):
        if item.manipulation == faceforensics.ORIGINAL:
            for quality, kept in (("raw", raw), ("c40", c40)):
                kept += [spectra.luminance(frame) for frame in video.read_frames(item.files[quality])]
    raw, c40 = np.stack(raw), np.stack(c40)
    edges = [0.01, 0.0625, 0.125, 0.25, 0.5]
    lost = spectra.power_spectrum(c40 - raw).mean(0)
    there = spectra.power_spectrum(raw).mean(0)
    relative = spectra.radial_profile(lost, edges) / spectra.radial_profile(there, edges)
    assert (np.diff(relative) > 0).all() and relative[-1] > 0.7
    high = spectra.frequency_radius(*raw.shape[1:]) >= 0.25
    assert lost[high].sum() < 0.5 * lost.sum()


def test_sliced_distance_is_a_metric():
    """Of the distributions that maps stand for, over the same directions."""
    from addlib.losses import random_directions, sliced_wasserstein

    maps = torch.randn(6, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions = random_directions(40, generator=torch.Generator().manual_seed(1)).double()
    for p in (1, 2):
        d = torch.stack([sliced_wasserstein(one.expand_as(maps), maps, directions, p=p) for one in maps])
        torch.testing.assert_close(d, d.T)
        assert d.diagonal().abs().max() < 1e-9 and d[~torch.eye(6, dtype=torch.bool)].min() > 1e-3
        assert (d[:, None] <= d[:, :, None] + d[None] + 1e-12).all(), "triangle inequality"


def test_every_view_of_a_map_has_mass_one():
    from addlib.losses import random_directions, sliced_attention

    maps = torch.randn(4, 6, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views = sliced_attention(maps, random_directions(7, generator=torch.Generator().manual_seed(1)).double(), 4)
    assert views.min() >= 0 and views.shape == (4, 7, 4)
    torch.testing.assert_close(views.sum(-1), torch.ones(4, 7, dtype=torch.float64))
