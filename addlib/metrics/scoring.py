"""Scores of the answers of a detector, at frame or at video level.

``weights`` say how often each sample counts: (N,), or (D, N) for D bootstrap draws at once, which gives (D,) results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """All in [0, 1]. ``auc`` and ``eer`` are NaN where there is one class alone: a number would enter a mean unseen."""

    accuracy: float
    auc: float
    eer: float
    ece: float


class Videos(NamedTuple):
    """One entry a video, in the order of its first frame: probability (V,) float64, label (V,) int64, name (V,)."""

    probabilities: np.ndarray
    labels: np.ndarray
    videos: np.ndarray


def scores(probabilities, labels, *, bins: int = 15) -> Scores:
    """Accuracy, AUC, equal error rate and expected calibration error.

    Args:
        probabilities: of fake, (N,) floats in [0, 1]: tensor of any device, array or list.
        labels: (N,) integers, 1 fake and 0 real.
        bins: of :func:`ece`.

    Raises:
        ValueError: shapes are not one (N,), N is 0, or a value is NaN or outside [0, 1] and {0, 1}.
    """
    given = probabilities, labels
    return Scores(accuracy(*given), auc(*given), eer(*given), ece(*given, bins=bins))


def mean(values, weights=None):
    """Weighted mean of (N,) finite numbers, such as of hits of Recall@1; NaN where the weights sum to 0."""
    values = to_array(values)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise ValueError(f"values are {values.dtype} {values.shape}; expected (N,) finite numbers, N > 0")
    rows = _rows(weights, len(values))
    return _result(_ratio(rows @ values.astype(np.float64), rows.sum(1)), weights)


def accuracy(probabilities, labels, weights=None):
    """Share of samples whose more probable class is the true one (eq. 11 of the supplement of ADD).

    A probability of exactly 0.5 counts as real, as argmax over the logits (real, fake) has it.
    """
    probabilities, labels = _checked(probabilities, labels, of="probabilities")
    return mean((probabilities > 0.5) == (labels == 1), weights)


def auc(answers, labels, weights=None):
    """Area under the ROC curve: how often a random fake scores above a random real; equal answers count half.

    answers: (N,) any monotone score of fake: probabilities, or log odds, which do not saturate.
    Exact with integer weights; NaN where one of the classes is missing or weighs nothing.
    """
    below_real, below_fake = _cumulated(answers, labels, weights)
    # A fake at a threshold beats the reals below it, and ties with those at it.
    doubled = (np.diff(below_fake) * (below_real[:, :-1] + below_real[:, 1:])).sum(1)
    return _result(_ratio(doubled, 2 * below_real[:, -1] * below_fake[:, -1]), weights)


def eer(answers, labels) -> float:
    """Equal error rate: where the ROC curve, straight between thresholds, has as large a share of false alarms as of misses.

    answers: as :func:`auc`. NaN where one of the classes is missing.
    """
    below_real, below_fake = (below[0] for below in _cumulated(answers, labels, None))
    reals, fakes = below_real[-1], below_fake[-1]
    if not reals or not fakes:
        return float("nan")
    # Above a threshold is called fake: misses below_fake / fakes, false alarms 1 - below_real / reals. In whole numbers.
    gap = below_fake * reals + below_real * fakes - reals * fakes
    after = max(int((gap >= 0).argmax()), 1)
    step = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float((below_fake[after - 1] + step * (below_fake[after] - below_fake[after - 1])) / fakes)


def ece(probabilities, labels, *, bins: int = 15) -> float:
    """Expected calibration error: the mean gap, in equal bins of the probability of fake, to the share of fakes.

    Guo et al. (ICML 2017), here of the probability of fake and not of the class predicted. Exactly 1 is a bin of its own.
    """
    probabilities, labels = _checked(probabilities, labels, of="probabilities")
    place = np.searchsorted(np.linspace(0, 1, bins + 1), probabilities, side="right")
    return float(np.abs(np.bincount(place, probabilities - labels)).sum() / len(labels))


def by_video(probabilities, labels, videos) -> Videos:
    """Mean probability of the frames of each video: ``scores(*by_video(p, y, v)[:2])`` are scores at video level.

    videos: (N,) names. With several manipulations they hold the manipulation, as "Deepfakes/071_054" does.
    Raises ValueError as :func:`scores`, and for a video that has frames of both labels.
    """
    probabilities, labels = _checked(probabilities, labels, of="probabilities")
    names, first, member = np.unique(named("videos", videos, len(labels)), return_index=True, return_inverse=True)
    fakes, order = np.bincount(member, labels) / np.bincount(member), np.argsort(first)
    if not np.isin(fakes, (0, 1)).all():
        mixed = str(names[~np.isin(fakes, (0, 1))][0])
        raise ValueError(f'{mixed!r} has frames of both labels; name the manipulation, as in "Deepfakes/071_054"')
    means = np.bincount(member, probabilities) / np.bincount(member)
    return Videos(means[order], fakes[order].astype(np.int64), names[order])


def identities(videos) -> np.ndarray:
    """Number of the group of identities of each video: videos that share a face, directly or by others, are one group.

    The real "071" and "054" and the fakes "071_054" and "054_071" show the same two faces, so they are no independent
    evidence. Each actor of DeepFakeDetection is swapped with many others: all may be one group, which cannot be resampled.

    Args:
        videos: (N,) names, with the manipulation ("Deepfakes/071_054", "original/071") or without, no suffix.

    Returns:
        (N,) int64 in 0 ... groups - 1, in the order of the groups' first identities, whatever the order of the videos.
    """
    from addlib.faceforensics import tree

    names, member = np.unique(to_array(videos).astype(str), return_inverse=True)
    if member.ndim != 1 or not len(names) or any(name.endswith(".mp4") for name in names):
        raise ValueError(f"videos are {names[:3].tolist()} {member.shape}; expected names, (N,), without .mp4")
    # The numbers of actors are others than those of the reals from the web.
    parts = [name.rpartition("/") for name in names.tolist()]
    ids = [[(tree.reals_of(kind), person) for person in tree.identities(video)] for kind, _, video in parts]
    group = {person: person for people in ids for person in people}

    def root(person):
        while group[person] != person:
            person = group[person]
        return person

    for people in ids:
        roots = [root(person) for person in people]
        group |= dict.fromkeys(roots, min(roots))
    return np.unique([root(people[0]) for people in ids], axis=0, return_inverse=True)[1].ravel()[member]


def to_array(values) -> np.ndarray:
    """Tensor of any device, array or sequence as a NumPy array; bfloat16, which NumPy lacks, becomes float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    return np.asarray(values)


def named(name: str, values, length: int) -> np.ndarray:
    """Names or numbers, one for each sample, as an array (N,)."""
    values = to_array(values)
    if values.shape != (length,):
        raise ValueError(f"{name} are {values.shape} for {length} samples; expected one each, ({length},)")
    return values


def _checked(answers, labels, of="answers"):
    """Answers as float64 (N,), labels as int64 (N,)."""
    answers, labels = to_array(answers), to_array(labels)
    if answers.ndim != 1 or labels.shape != answers.shape or not len(labels) or answers.dtype.kind != "f":
        raise ValueError(
            f"{of} are {answers.dtype} {answers.shape}, labels {labels.shape}; expected floats of fake alone, (N,), and a label each"
        )
    if np.isnan(answers).any():
        raise ValueError(
            f"{np.isnan(answers).sum()} of {len(answers)} {of} are NaN; a model that diverged has no score"
        )
    if of == "probabilities" and not 0 <= answers.min() <= answers.max() <= 1:
        raise ValueError(f"{of} span {answers.min():g} to {answers.max():g}, expected [0, 1]; take softmax first")
    if labels.dtype.kind not in "iub" or not set(np.unique(labels).tolist()) <= {0, 1}:
        raise ValueError(f"labels are {labels.dtype} {np.unique(labels)[:5]}; expected integers, 1 fake and 0 real")
    return answers.astype(np.float64), labels.astype(np.int64)


def _cumulated(answers, labels, weights):
    """Weight of the reals and of the fakes up to each distinct answer, from 0 to all: two (D, thresholds + 1)."""
    answers, labels = _checked(answers, labels)
    order = np.argsort(answers, kind="stable")
    answers, fake, rows = answers[order], labels[order], _rows(weights, len(labels))[:, order]
    ends = np.append(np.flatnonzero(answers[1:] != answers[:-1]), len(labels) - 1)  # the last of each run of equals
    return [np.pad(np.cumsum(rows * kind, 1)[:, ends], ((0, 0), (1, 0))) for kind in (1 - fake, fake)]


def _rows(weights, length):
    """Weights as a matrix (D, N), of integers where they are given as such."""
    weights = np.ones(length, np.int64) if weights is None else to_array(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != length or not (weights >= 0).all():
        raise ValueError(f"weights are {weights.shape} for {length} samples; expected (N,) or (D, N), none negative")
    return np.atleast_2d(weights).astype(np.float64 if weights.dtype.kind == "f" else np.int64, copy=False)


def _ratio(above, below):
    """Quotient in float64, NaN where the denominator is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0)


def _result(values, weights):
    return values if weights is not None and np.ndim(weights) == 2 else float(values[0])
