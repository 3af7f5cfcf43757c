"""Scores of the answers of a detector, at frame or at video level.

``weights`` say how often each sample counts: (N,), or (D, N) for D bootstrap draws at once, which gives (D,) results.
"""

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


def scores(probabilities, labels) -> Scores:
    """All of them. probabilities: of fake, (N,) floats in [0, 1]: tensor, array or list. labels: (N,), 1 fake and 0 real."""
    return Scores(*(measure(probabilities, labels) for measure in (accuracy, auc, eer, ece)))


def mean(values, weights=None):
    """Weighted mean of (N,) numbers, such as hits of Recall@1."""
    values, rows = to_array(values).astype(np.float64), _rows(weights, len(values))
    return _share(rows @ values, rows.sum(1), weights)


def accuracy(probabilities, labels, weights=None):
    """Share of samples whose more probable class is the true one (eq. 11 of the supplement of ADD); 0.5 counts as real."""
    probabilities, labels = _checked(probabilities, labels, shares=True)
    return mean((probabilities > 0.5) == (labels == 1), weights)


def auc(answers, labels, weights=None):
    """Area under the ROC curve of a monotone score of fake, (N,): odds do not saturate as probabilities do; ties count half."""
    answers, labels = _checked(answers, labels)
    rows, fake = _rows(weights, len(labels)), labels == 1
    order = np.argsort(answers[~fake])
    reals, fakes = rows[:, ~fake][:, order], rows[:, fake]
    below = np.pad(np.cumsum(reals, 1), ((0, 0), (1, 0)))  # weight of the lowest 0, 1, 2, … reals
    # A fake beats the reals below it, and ties with those at it: twice what it beats is what lies below and what lies not above.
    first, last = (np.searchsorted(answers[~fake][order], answers[fake], side) for side in ("left", "right"))
    doubled = (fakes * (below[:, first] + below[:, last])).sum(1)
    return _share(doubled, 2 * below[:, -1] * fakes.sum(1), weights)


def eer(answers, labels) -> float:
    """Equal error rate: where the ROC curve, straight between thresholds, has as large a share of false alarms as of misses."""
    answers, labels = _checked(answers, labels)
    order = np.argsort(answers, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(answers[order])), len(labels) - 1)  # the last of each run of equals
    real, fake = (np.append(0, np.cumsum(labels[order] == kind)[ends]) for kind in (0, 1))
    # Above a threshold is called fake: misses less false alarms, in whole numbers, against misses.
    gap = fake * real[-1] + real * fake[-1] - real[-1] * fake[-1]
    return float(np.interp(0, gap, fake) / fake[-1]) if real[-1] and fake[-1] else float("nan")


def ece(probabilities, labels, *, bins: int = 15) -> float:
    """Expected calibration error of the probability of fake, in equal bins (Guo et al., ICML 2017); exactly 1 is one of its own."""
    probabilities, labels = _checked(probabilities, labels, shares=True)
    place = np.searchsorted(np.linspace(0, 1, bins + 1), probabilities, side="right")
    return float(np.abs(np.bincount(place, probabilities - labels)).sum() / len(labels))


def by_video(probabilities, labels, videos) -> Videos:
    """Mean probability of the frames of each video, by names (N,): ``scores(*by_video(p, y, v)[:2])`` is at video level."""
    probabilities, labels = _checked(probabilities, labels, shares=True)
    names, first, member = np.unique(named("videos", videos, len(labels)), return_index=True, return_inverse=True)
    means, fakes = (np.bincount(member, each) / np.bincount(member) for each in (probabilities, labels))
    if mixed := names[fakes % 1 > 0].tolist():
        raise ValueError(f'{mixed[0]!r} has frames of both labels; name the manipulation, as in "Deepfakes/071_054"')
    order = np.argsort(first)
    return Videos(means[order], fakes[order].astype(np.int64), names[order])


def identities(videos) -> np.ndarray:
    """Number of the group of identities of each video: videos that share a face, directly or by others, are one group.

    The real "071" and "054" and the fakes "071_054" and "054_071" show the same two faces, so they are no independent
    evidence. Each actor of DeepFakeDetection is swapped with many others: all may be one group, which cannot be resampled.
    videos: (N,) names, with the manipulation or without. Groups are numbered in the order of their first identities.
    """
    from addlib.faceforensics import splits, tree

    names, member = np.unique(to_array(videos).astype(str), return_inverse=True)
    if any(name.endswith(".mp4") for name in names):
        raise ValueError(f"videos are {names[:3].tolist()}; expected names without .mp4")
    parts = [name.rpartition("/") for name in names.tolist()]
    # The numbers of actors are others than those of the reals from the web.
    people = [[(tree.reals_of(kind), person) for person in tree.identities(video)] for kind, _, video in parts]
    number = splits.groups(people)
    return np.array([number[pair[0]] for pair in people], np.int64)[member]


def to_array(values) -> np.ndarray:
    """Tensor of any device, array or sequence as a NumPy array; bfloat16, which NumPy lacks, becomes float32."""
    if hasattr(values, "detach"):
        return (values.float() if str(values.dtype) == "torch.bfloat16" else values).detach().cpu().numpy()
    return np.asarray(values)


def named(name: str, values, length: int) -> np.ndarray:
    """Names or numbers, one for each sample, as an array (N,)."""
    values = to_array(values)
    if values.shape != (length,):
        raise ValueError(f"{name} are {values.shape} for {length} samples; expected one each, ({length},)")
    return values


def _checked(answers, labels, shares=False):
    """Answers as float64 (N,), in [0, 1] if they are shares, and labels as int64 (N,)."""
    answers, labels = to_array(answers), to_array(labels)
    if answers.ndim != 1 or labels.shape != answers.shape or not len(labels) or answers.dtype.kind != "f":
        shapes = f"answers are {answers.dtype} {answers.shape}, labels {labels.dtype} {labels.shape}"
        raise ValueError(f"{shapes}; expected floats of fake alone, (N,), and a label each")
    low, high = (answers.min(), answers.max()) if shares else (0, 1)
    if np.isnan(answers).any() or not 0 <= low <= high <= 1:
        raise ValueError(f"answers span {low:g} to {high:g}; expected probabilities: no NaN, and softmax taken")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels are such as {labels[:5]}; expected 1 for fake and 0 for real")
    return answers.astype(np.float64), labels.astype(np.int64)


def _rows(weights, length):
    """Weights as a matrix (D, N), of integers where they are given as such."""
    weights = np.ones(length, np.int64) if weights is None else to_array(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != length or not (weights >= 0).all():
        raise ValueError(f"weights are {weights.shape} for {length} samples; expected (N,) or (D, N), none negative")
    return np.atleast_2d(weights)


def _share(above, below, weights):
    """Quotient, NaN where there is nothing below: a number, or (D,) for the weights of D draws."""
    found = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return found if np.ndim(weights) == 2 else float(found[0])
