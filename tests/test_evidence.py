"""Proofs and measurements that data/claims.yml names as evidence, where no other test file shows them."""

import math
from functools import cmp_to_key
from itertools import product

import numpy as np
import pytest
import torch

import spectra
from addlib import faceforensics, losses, metrics, video


def made(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def directions(count, seed=0):
    return losses.random_directions(count, generator=torch.Generator().manual_seed(seed)).double()


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
    y, x = torch.meshgrid(*2 * [torch.arange(8, dtype=torch.float64)], indexing="ij")
    found = []
    for u, v in ((1, 0), (3, 2)):
        maps = torch.cos(2 * math.pi * (u * y + v * x) / 8).expand(1, 3, 8, 8)
        found.append(losses.frequency_attention(maps, torch.zeros_like(maps)).weight[0, u, v].item())
    assert found[0] == pytest.approx(found[1], rel=1e-12) and found[0] > 1
    noise = made(1, 3, 8, 8)
    turned = noise * (-1) ** (x + y)  # moves each frequency by half of all: low ones become high ones
    one, other = (losses.frequency_attention(maps, torch.zeros_like(maps)).weight for maps in (noise, turned))
    torch.testing.assert_close(other, one.roll((4, 4), (1, 2)), rtol=1e-10, atol=0)


def test_sum_over_views_grows_and_the_mean_converges():
    """Two points apart by x: the mean of |<x, direction>| over the sphere is |x| / 2, its integral 4 pi times that."""
    first, second = torch.zeros(2, 1, 4, 5, 6)
    first[0, 1, 1, 1] = second[0, 3, 2, 3] = 1.0
    mean, sums = math.dist((1, 1, 1), (3, 2, 3)) / 2, {}
    for views in (1000, 4000):
        costs = losses.sliced_wasserstein(first, second, directions(views).float(), reduction="none")
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
        turned = np.exp(-2j * np.pi * np.arange(len(odd)) / len(values))[:, None] * odd
        products += turned.size
        return np.concatenate([even + turned, even - turned])

    for shape in ((2, 8, 16), (3, 16, 16)):
        products, (channels, height, width) = 0, shape
        maps = np.random.default_rng(0).normal(size=shape)
        rows = transform(maps.transpose(2, 0, 1).reshape(width, -1)).reshape(width, channels, height)
        both = transform(rows.transpose(2, 1, 0).reshape(height, -1)).reshape(height, channels, width)
        np.testing.assert_allclose(both.transpose(1, 0, 2), torch.fft.fft2(torch.from_numpy(maps)).numpy(), atol=1e-9)
        assert products == channels * height * width * (math.log2(width) + math.log2(height)) / 2


def test_sorted_views_cost_n_log_n_and_bins_need_no_sort():
    """Algorithm 1 with a sort whose comparisons are counted gives the views that a histogram gives."""
    compared, bins = 0, 5

    def compare(a, b):
        nonlocal compared
        compared += 1
        return (a[0] > b[0]) - (a[0] < b[0])

    for shape in ((6, 4, 4), (8, 8, 8)):
        features = made(1, *shape, seed=1)
        mass = (features[0] ** 2 / (features**2).sum()).flatten()
        grid = torch.cartesian_prod(*(torch.arange(float(n), dtype=torch.float64) for n in shape))
        views, compared = torch.zeros(3, bins, dtype=torch.float64), 0
        for view, direction in zip(views, directions(3), strict=True):
            order = sorted(zip((grid @ direction).tolist(), mass.tolist(), strict=True), key=cmp_to_key(compare))
            low, high = order[0][0], order[-1][0]
            for place, share in order:
                view[min(int((place - low) / (high - low) * bins), bins - 1)] += share
        assert compared <= 3 * len(mass) * math.log2(len(mass))
        torch.testing.assert_close(losses.sliced_attention(features, directions(3), bins)[0], views)


def test_loss_has_no_parameters_and_takes_any_maps():
    loss = losses.ADDLoss((1.0, 1.0), (1.0, 1.0))
    assert not list(loss.parameters())
    for shapes in (((4, 24, 8, 8), (4, 48, 4, 4)), ((4, 6, 7, 5), (4, 728, 2, 2))):
        student = [made(*shape).float().requires_grad_() for shape in shapes]
        value = loss(student, [torch.ones(shape) for shape in shapes], torch.tensor([0, 1, 0, 1]))
        value.backward()
        assert value.isfinite() and all(maps.grad.abs().max() > 0 for maps in student)


def test_small_recall_does_not_mean_small_variation():
    """Points of two classes in turn on a line have Recall@1 zero however far they are spread; drawn together by class, it is one."""
    labels = torch.arange(20) % 2
    spread = torch.arange(20.0)[:, None] ** 1.01
    together = 0.01 * spread + 100 * labels[:, None]
    assert [metrics.recall_at_1(points, labels) for points in (spread, together)] == [0, 1]
    assert spread[labels == 0].std() > 50 * together[labels == 0].std()


def test_compression_takes_most_of_the_high_frequencies_and_most_from_the_others(tree):
    """Real drawn people, raw against c40: loss relative to raw in rings of frequency, and where the lost energy was."""
    files = [item.files for item in faceforensics.discover(tree) if item.manipulation == faceforensics.ORIGINAL]
    raw, c40 = (
        np.stack([spectra.luminance(frame) for each in files for frame in video.read_frames(each[quality])])
        for quality in ("raw", "c40")
    )
    edges = [0.01, 0.0625, 0.125, 0.25, 0.5]
    lost, there = (spectra.power_spectrum(frames).mean(0) for frames in (c40 - raw, raw))
    relative = spectra.radial_profile(lost, edges) / spectra.radial_profile(there, edges)
    assert (np.diff(relative) > 0).all() and relative[-1] > 0.7
    assert lost[spectra.frequency_radius(*raw.shape[1:]) >= 0.25].sum() < 0.5 * lost.sum()


def test_sliced_distance_is_a_metric():
    """Of the distributions that maps stand for, over the same directions."""
    maps = made(6, 3, 4, 5)
    for p in (1, 2):
        d = torch.stack([losses.sliced_wasserstein(one.expand_as(maps), maps, directions(40), p=p) for one in maps])
        torch.testing.assert_close(d, d.T)
        assert d.diagonal().abs().max() < 1e-9 and d[~torch.eye(6, dtype=torch.bool)].min() > 1e-3
        assert (d[:, None] <= d[:, :, None] + d[None] + 1e-12).all(), "triangle inequality"


def test_every_view_of_a_map_has_mass_one():
    views = losses.sliced_attention(made(4, 6, 5, 3), directions(7), 4)
    assert views.min() >= 0 and views.shape == (4, 7, 4)
    torch.testing.assert_close(views.sum(-1), torch.ones(4, 7, dtype=torch.float64))
