"""Independent oracles of the losses: plain loops in NumPy over samples, views and positions; they share no line with addlib."""

import math
from itertools import product

import numpy as np


def frequency_loss(student, teacher, gamma):
    """Eq. 1-3: sum over channels and frequencies, DFT divided by HW, mean over the batch. Also w and e, (B, H, W)."""
    batch, channels, height, width = student.shape
    energies = np.zeros((batch, height, width))
    y, x = np.indices((height, width))
    for b, u, v in product(range(batch), range(height), range(width)):
        wave = np.exp(-2j * math.pi * (u * y / height + v * x / width))
        for c in range(channels):
            coefficient = ((student[b, c] - teacher[b, c]) * wave).sum() / (height * width)
            energies[b, u, v] += abs(coefficient) ** 2
    weights = np.exp(gamma * energies / channels)
    return (weights * energies).sum() / batch, weights, energies


def projections(shape, direction, coordinates):
    """Projected grid of one direction, as a dictionary from (c, y, x) to a number."""
    scale = [1 / max(size - 1, 1) if coordinates == "unit" else 1.0 for size in shape]
    return {
        point: sum(float(d) * p * s for d, p, s in zip(direction, point, scale, strict=True))
        for point in product(*map(range, shape))
    }


def bin_of(value, low, high, bins):
    """Equal-width bin; a value on an edge belongs to the upper bin, the largest to the last."""
    if high <= low:
        return 0
    return min(math.floor((value - low) / ((high - low) / bins) + 1e-9), bins - 1)


def attention(features, directions, bins, coordinates="index"):
    """Mass of A^2 / ||A||^2 in the bins of every view, (B, K, bins)."""
    found = np.zeros((len(features), len(directions), bins))
    for k, direction in enumerate(directions):
        positions = projections(features.shape[1:], direction, coordinates)
        low, high = min(positions.values()), max(positions.values())
        for b, sample in enumerate(features):
            for point, position in positions.items():
                found[b, k, bin_of(position, low, high, bins)] += sample[point] ** 2 / (sample**2).sum()
    return found


def published_attention(features, directions, bins, coordinates="index"):
    """As the published code: mass in raster order, cut where the sorted projections cross the edges; no last bin."""
    found = np.zeros((len(features), len(directions), bins - 1))
    for k, direction in enumerate(directions):
        values = list(projections(features.shape[1:], direction, coordinates).values())
        low, high = min(values), max(values)
        thresholds = [low + (high - low) * edge / bins for edge in range(1, bins)]
        cuts = [0, *(sum(value < threshold for value in values) + 1 for threshold in thresholds)]
        for b, sample in enumerate(features):
            mass = sample.ravel() ** 2 / (sample**2).sum()
            found[b, k] = [mass[start:stop].sum() for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]
    return found


def distance(first, second):
    """Squared differences summed over the bins of one view."""
    return ((first - second) ** 2).sum()


def multi_view_loss(student, teacher, same, other, gamma, eta, margin):
    """Eq. 9 of attention vectors (B, K, bins): mean over views, hinge of the mean, mean over the batch."""
    batch, views = student.shape[:2]
    total = 0.0
    for b in range(batch):
        total += gamma * sum(distance(student[b, k], teacher[b, k]) for k in range(views)) / views
        for index, attract in ((same, True), (other, False)):
            partners = np.broadcast_to(index, (views, batch))[:, b]
            apart = [distance(student[b, k], teacher[j, k]) for k, j in enumerate(partners) if j >= 0]
            if apart:
                total += eta * (np.mean(apart) if attract else max(margin - np.mean(apart), 0))
    return total / batch


def published_multi_view_loss(student, teacher, same, other, gamma, eta, margin):
    """Both directions, a pair and a hinge for every view; pairs (K, 2, B)."""
    batch, views = student.shape[:2]
    total = 0.0
    for b, k in product(range(batch), range(views)):
        total += gamma * distance(student[b, k], teacher[b, k])
        for way, (anchor, partner) in enumerate(((student, teacher), (teacher, student))):
            if same[k, way, b] >= 0:
                total += eta * distance(anchor[b, k], partner[same[k, way, b], k])
            if other[k, way, b] >= 0:
                total += eta * max(margin - distance(anchor[b, k], partner[other[k, way, b], k]), 0)
    return total / (batch * views)


def attention_transfer(student, teacher):
    """Mean over batch and positions of the squared difference of the normalised sums of squares over channels."""
    maps = [(features**2).sum(1) for features in (student, teacher)]
    maps = [summed / np.sqrt((summed**2).sum((1, 2), keepdims=True)) for summed in maps]
    return ((maps[0] - maps[1]) ** 2).mean()
