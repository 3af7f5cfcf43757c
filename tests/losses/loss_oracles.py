"""Independent oracles of the losses: plain loops over samples, views, channels and positions, in Python floats.

They follow the equations of the paper word by word, share no line with addlib.losses, and are slow: give them maps of a
few hundred elements.
"""

import cmath
import math
from itertools import product

import numpy as np


def frequency_loss(student, teacher, gamma):
    """Eq. 1-3: sum over channels and frequencies, DFT divided by HW, mean over the batch. Also w and e, (B, H, W)."""
    batch, channels, height, width = student.shape
    weights, energies = np.zeros((batch, height, width)), np.zeros((batch, height, width))
    total = 0.0
    for b, u, v in product(range(batch), range(height), range(width)):
        distances = []
        for c in range(channels):
            coefficient = 0
            for y, x in product(range(height), range(width)):
                wave = cmath.exp(-2j * math.pi * (u * y / height + v * x / width))
                coefficient += (float(student[b, c, y, x]) - float(teacher[b, c, y, x])) * wave
            distances.append(abs(coefficient / (height * width)) ** 2)
        energies[b, u, v] = sum(distances)
        weights[b, u, v] = math.exp(gamma * sum(distances) / channels)
        total += sum(weights[b, u, v] * distance for distance in distances)
    return total / batch, weights, energies


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
    result = np.zeros((len(features), len(directions), bins))
    for k, direction in enumerate(directions):
        positions = projections(features.shape[1:], direction, coordinates)
        low, high = min(positions.values()), max(positions.values())
        for b, sample in enumerate(features):
            norm = math.fsum(float(value) ** 2 for value in sample.flat)
            for point, position in positions.items():
                result[b, k, bin_of(position, low, high, bins)] += float(sample[point]) ** 2 / norm
    return result


def published_attention(features, directions, bins, coordinates="index"):
    """As the published code: mass in raster order, cut where the sorted projections cross the edges; no last bin."""
    result = np.zeros((len(features), len(directions), bins - 1))
    for k, direction in enumerate(directions):
        values = sorted(projections(features.shape[1:], direction, coordinates).values())
        low, high = values[0], values[-1]
        cuts = [0]
        for edge in range(1, bins):
            threshold = low + (high - low) * edge / bins
            cuts.append(sum(value < threshold for value in values) + 1)
        for b, sample in enumerate(features):
            raster = [float(value) ** 2 for value in sample.flat]
            norm = math.fsum(raster)
            for j in range(bins - 1):
                result[b, k, j] = math.fsum(raster[cuts[j] : cuts[j + 1]]) / norm
    return result


def distance(first, second):
    """Squared differences summed over the bins of one view."""
    return math.fsum((float(a) - float(b)) ** 2 for a, b in zip(first, second, strict=True))


def multi_view_loss(student, teacher, same, other, gamma, eta, margin):
    """Eq. 9 of attention vectors (B, K, bins): mean over views, hinge of the mean, mean over the batch."""
    batch, views = student.shape[:2]
    total = 0.0
    for b in range(batch):
        loss = gamma * sum(distance(student[b, k], teacher[b, k]) for k in range(views)) / views
        for index, attract in ((same, True), (other, False)):
            partners = [int(index[b]) if index.ndim == 1 else int(index[k, b]) for k in range(views)]
            apart = [distance(student[b, k], teacher[j, k]) for k, j in enumerate(partners) if j >= 0]
            if apart:
                mean = sum(apart) / len(apart)
                loss += eta * (mean if attract else max(margin - mean, 0))
        total += loss
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

    def attend(sample):
        channels, height, width = sample.shape
        summed = [
            sum(float(sample[c, y, x]) ** 2 for c in range(channels)) for y in range(height) for x in range(width)
        ]
        length = math.sqrt(sum(value**2 for value in summed))
        return [value / length for value in summed]

    differences = [
        (a - b) ** 2 for s, t in zip(student, teacher, strict=True) for a, b in zip(attend(s), attend(t), strict=True)
    ]
    return sum(differences) / len(differences)
