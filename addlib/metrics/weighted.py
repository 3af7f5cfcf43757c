"""Metrics that count each sample as often as a weight says.

A bootstrap draw is a weight for each sample: how often it was drawn. With many draws as rows of one matrix, the
samples are sorted once and not once a draw.
"""

from __future__ import annotations

import numpy as np

from addlib.metrics._inputs import check_scored, to_array


def weighted(metric):
    """Mark ``metric(*arrays, weights=(D, N)) -> (D,)`` as one that a bootstrap may call with D draws at once."""
    metric.weighted = True
    return metric


@weighted
def mean(values, weights=None):
    """Weighted mean, such as of hits and misses of Recall@1.

    Args:
        values: (N,) numbers or booleans.
        weights: (N,) or (D, N), not negative: how often each sample counts. By default once.

    Returns:
        float, or (D,) float64 of a matrix of weights. NaN where the weights sum to 0.

    Raises:
        ValueError: shapes do not fit, N is 0, a value is not finite or a weight is negative or not finite.
    """
    values = to_array(values)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values are {values.shape}, expected (N,) with at least one sample")
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise ValueError(f"values are {values.dtype}, expected finite numbers or booleans")
    rows = _rows(weights, len(values))
    return _result(_ratio(rows @ values.astype(np.float64), rows.sum(1)), weights)


@weighted
def accuracy(probabilities, labels, weights=None):
    """Share of samples whose more probable class is the true one (eq. 11 of the supplement of ADD).

    A probability of exactly 0.5 counts as real, as argmax over the logits (real, fake) has it.

    Args:
        probabilities: of fake, (N,) floats in [0, 1].
        labels: (N,) integers, 1 fake and 0 real.
        weights: as :func:`mean`.

    Returns:
        In [0, 1]: float, or (D,) float64 of a matrix of weights.

    Raises:
        ValueError: as :func:`addlib.metrics.scores`, or weights do not fit.
    """
    probabilities, labels = check_scored(probabilities, labels)
    return mean((probabilities > 0.5) == (labels == 1), weights)


@weighted
def auc(probabilities, labels, weights=None):
    """Area under the ROC curve: how often a random fake scores above a random real; equal scores count half.

    Arguments, shapes and errors as :func:`accuracy`. NaN where one of the two classes is missing or weighs nothing.
    With integer weights all sums are exact.
    """
    below_real, below_fake, reals, fakes = _cumulated(probabilities, labels, weights)
    # A fake at a threshold beats the reals below it, and ties with those at it.
    doubled = (np.diff(below_fake) * (below_real[:, :-1] + below_real[:, 1:])).sum(1)
    return _result(_ratio(doubled, 2 * reals * fakes), weights)


@weighted
def eer(probabilities, labels, weights=None):
    """Equal error rate: where the ROC curve has as large a share of false alarms as of missed fakes.

    Arguments, shapes and errors as :func:`accuracy`. NaN where one of the two classes is missing or weighs nothing.
    Between two thresholds the curve is a straight line, so the two shares meet exactly. torchmetrics (``binary_eer``,
    from 1.7) takes instead the mean of both at the threshold where they are nearest, which with few samples or many
    equal probabilities is another number, and may change when the classes are swapped.
    """
    below_real, below_fake, reals, fakes = _cumulated(probabilities, labels, weights)
    # What lies above a threshold is called fake: missed = below_fake / fakes, false alarms = 1 - below_real / reals.
    # Their difference rises from -1 to 1, and here is times both totals: exact with integer weights.
    gap = below_fake * reals[:, None] + below_real * fakes[:, None] - (reals * fakes)[:, None]
    after = np.maximum((gap >= 0).argmax(1), 1)
    row = np.arange(len(gap))
    step = _ratio(-gap[row, after - 1], gap[row, after] - gap[row, after - 1])
    crossing = below_fake[row, after - 1] + step * (below_fake[row, after] - below_fake[row, after - 1])
    return _result(_ratio(crossing, fakes), weights)


def _cumulated(probabilities, labels, weights):
    """Weight of the reals and of the fakes up to each distinct probability, two (D, thresholds + 1), and their sums (D,)."""
    probabilities, labels = check_scored(probabilities, labels)
    rows = _rows(weights, len(labels))
    order = np.argsort(probabilities, kind="stable")
    ends = np.flatnonzero(np.diff(probabilities[order], append=np.inf))  # the last of each run of equal probabilities
    rows, fake = rows[:, order], labels[order]
    below = [np.pad(np.cumsum(rows * kind, 1)[:, ends], ((0, 0), (1, 0))) for kind in (1 - fake, fake)]
    return *below, below[0][:, -1], below[1][:, -1]


def _rows(weights, length):
    """Weights as a matrix (D, N), of integers where they are given as such."""
    if weights is None:
        return np.ones((1, length), np.int64)
    weights = to_array(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != length:
        raise ValueError(f"weights are {weights.shape} for {length} samples; expected ({length},) or (D, {length})")
    if weights.dtype.kind not in "fiub" or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights hold something negative or not finite; expected how often each sample counts")
    return np.atleast_2d(weights).astype(np.float64 if weights.dtype.kind == "f" else np.int64, copy=False)


def _ratio(above, below):
    """Quotient in float64, NaN where the denominator is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0)


def _result(values, weights):
    return values if weights is not None and np.ndim(weights) == 2 else float(values[0])
