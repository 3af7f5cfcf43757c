"""How far a figure may be trusted: over the identities of the test set, and over the seeds of the training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from addlib.metrics._inputs import check_count, check_level, check_names, to_array

# Weights held at a time, 8 bytes each: a block of draws times all samples.
ELEMENTS = 2**20


class Interval(NamedTuple):
    """What :func:`bootstrap_interval` returns."""

    value: float  # of all samples, each once
    low: float
    high: float
    level: float
    draws: int  # asked for
    undefined: int  # of these, left out because the metric was NaN
    groups: int


class Difference(NamedTuple):
    """What :func:`paired_difference` returns: a figure of ``a`` less that of ``b``."""

    value: float
    low: float
    high: float
    p: float
    level: float
    draws: int
    undefined: int
    groups: int


class SeedInterval(NamedTuple):
    """What :func:`seed_interval` returns."""

    mean: float
    std: float
    low: float
    high: float
    level: float
    seeds: int


def bootstrap_interval(
    metric: Callable, *arrays, groups, level: float = 0.95, draws: int = 1000, generator=0
) -> Interval:
    """Percentile interval of a metric, by drawing whole groups of samples with replacement.

    The frames of a video, and the videos of a pair of identities, stand or fall together: drawn one by one they would
    give an interval that is much too narrow. With ``groups=identities(videos)`` the question is how the figure would
    move on other identities, the model being the same. (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13; groups as the units of drawing.) With fewer than about 20 groups the interval is somewhat too narrow.

    Args:
        metric: ``metric(*arrays) -> float``. :func:`accuracy`, :func:`auc`, :func:`eer` and :func:`mean` count each
            sample as often as it was drawn and are fast; any other is called once a draw, with the samples repeated.
            Recall@1 is a :func:`mean` of hits: the neighbours are then found once, among all samples.
        arrays: what the metric takes, each of N samples along its first axis: tensors, arrays or lists.
        groups: (N,) names or numbers.
        level: share of the draws inside the interval.
        draws: how many.
        generator: seed or ``numpy.random.Generator``. The same seed and groups give the same draws, for any metric.

    Returns:
        Draws for which the metric is NaN (AUC with one class alone) are left out of the interval and counted. The
        bounds are NaN if no draw is left, or if there is one group, of which every draw is a copy.

    Raises:
        ValueError: lengths differ, there are no samples, or a setting is out of range.
    """
    level, draws = check_level(level), check_count("draws", draws)
    arrays, groups = _check_samples(arrays, groups)
    (values,) = _resampled([(metric, arrays)], groups, draws, generator)
    low, high, undefined = _percentiles(values, level)
    return Interval(float(metric(*arrays)), low, high, level, draws, undefined, int(groups.max()) + 1)


def paired_difference(
    metric: Callable, a, b, labels, groups, *, level: float = 0.95, draws: int = 1000, generator=0
) -> Difference:
    """Figure of model ``a`` less that of model ``b`` on the same samples, with interval and p-value.

    Both models see the same draws: what makes a draw easy or hard for both cancels. Arguments as
    :func:`bootstrap_interval`.

    Args:
        a, b: what each model gave, N samples each: probabilities, or hits for ``metric=mean``.
        labels: (N,), or None for a metric of ``a`` alone, such as :func:`mean`.

    Returns:
        ``p`` is two-sided: twice the share of draws on the other side of 0 or at 0, one counted in, at most 1. It is
        the interval read the other way round (0 lies at its border when p is about 1 - level), not a second opinion;
        never below 2 / (draws + 1). It says nothing about other seeds of the training.

    Raises:
        ValueError: as :func:`bootstrap_interval`.
    """
    level, draws = check_level(level), check_count("draws", draws)
    common = [] if labels is None else [labels]
    arrays, groups = _check_samples((a, b, *common), groups)
    first, second = (arrays[0], *arrays[2:]), (arrays[1], *arrays[2:])
    values = np.subtract(*_resampled([(metric, first), (metric, second)], groups, draws, generator))
    low, high, undefined = _percentiles(values, level)
    beyond = min((values <= 0).sum(), (values >= 0).sum())
    p = min(1.0, 2 * (1 + beyond) / (1 + draws - undefined)) if undefined < draws else math.nan
    value = float(metric(*first)) - float(metric(*second))
    return Difference(value, low, high, float(p), level, draws, undefined, int(groups.max()) + 1)


def seed_interval(values, level: float = 0.95) -> SeedInterval:
    """Mean of a handful of trainings that differ in their seed, with Student's t interval.

    It covers what the seed changes (initial weights, order of the samples), on one test set: other identities are the
    business of :func:`bootstrap_interval`.

    Args:
        values: (n,) one result a seed.
        level: of confidence.

    Returns:
        ``std`` is that of the sample (n - 1). Of one seed ``std`` and the bounds are NaN.

    Raises:
        ValueError: no values, not (n,), one is not finite, or the level is out of range.
    """
    level = check_level(level)
    values = to_array(values)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values are {values.shape}, expected one result a seed, (n,)")
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"values are {values.tolist()}, expected finite numbers; report a seed that failed as such")
    n, mean = len(values), float(values.mean(dtype=np.float64))
    if n == 1:
        return SeedInterval(mean, math.nan, math.nan, math.nan, level, n)
    from scipy.stats import t  # takes a second to import

    std = float(values.std(ddof=1, dtype=np.float64))
    half = float(t.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return SeedInterval(mean, std, mean - half, mean + half, level, n)


def _check_samples(arrays, groups):
    """Arrays that can be indexed, and the groups as numbers 0 ... groups - 1."""
    if not arrays:
        raise ValueError("no arrays are given, expected what the metric takes")
    arrays = [array if isinstance(array, torch.Tensor) else np.asarray(array) for array in arrays]
    lengths = [len(array) if array.ndim else None for array in arrays]
    if None in lengths or len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(f"arrays are {[tuple(array.shape) for array in arrays]}, expected N samples each, N > 0")
    # Sorted names, so that the draws do not depend on the order of the samples.
    return arrays, np.unique(check_names("groups", groups, lengths[0]), return_inverse=True)[1]


def _resampled(evaluations, groups, draws: int, generator) -> np.ndarray:
    """Values of each (metric, arrays) over the same draws, (evaluations, draws); NaN where there is one group."""
    count = int(groups.max()) + 1
    values = np.full((len(evaluations), draws), np.nan)
    if count == 1:
        return values
    generator = np.random.default_rng(generator)
    size = max(1, ELEMENTS // len(groups))
    for start in range(0, draws, size):
        part = slice(start, min(start + size, draws))
        drawn = [np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(draws)[part]]
        weights = np.stack(drawn)[:, groups]
        for row, (metric, arrays) in zip(values, evaluations, strict=True):
            if getattr(metric, "weighted", False):
                row[part] = metric(*arrays, weights=weights)
            else:
                row[part] = [_repeated(metric, arrays, times) for times in weights]
    return values


def _repeated(metric, arrays, times) -> float:
    """The metric of samples that each appear ``times`` times, in their order."""
    index = np.repeat(np.arange(len(times)), times)
    return float(
        metric(*(a[torch.from_numpy(index).to(a.device)] if isinstance(a, torch.Tensor) else a[index] for a in arrays))
    )


def _percentiles(values, level: float) -> tuple[float, float, int]:
    """Bounds of the middle ``level`` of the defined values, and how many are not defined."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan, len(values)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), len(values) - len(defined)
