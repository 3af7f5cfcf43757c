"""Scores of the probabilities that a detector gives to a test set."""

from __future__ import annotations

from typing import NamedTuple

import torch

from addlib.metrics._inputs import check_count, check_scored
from addlib.metrics.weighted import accuracy, eer


class Scores(NamedTuple):
    """What :func:`scores` returns; all in [0, 1]. ``auc`` and ``eer`` are NaN where there is one class alone."""

    accuracy: float
    auc: float
    eer: float
    ece: float


def scores(probabilities, labels, *, bins: int = 15) -> Scores:
    """Accuracy, AUC, equal error rate and expected calibration error of frames, or of videos after :func:`by_video`.

    Args:
        probabilities: of fake, (N,) floats in [0, 1]: tensor of any device, array or list.
        labels: (N,) integers, 1 fake and 0 real.
        bins: equal parts of [0, 1] for the calibration error.

    Returns:
        ``accuracy``: at 0.5, see :func:`accuracy`. ``auc``: torchmetrics, area under the ROC curve. ``eer``: see
        :func:`eer`. ``ece``: torchmetrics, mean over the samples of the gap, within a bin of probabilities of fake,
        between their mean and the share of fakes; it is about the probability of fake, not about that of the class
        predicted, and a probability of exactly 1 has a bin to itself.

        AUC and EER compare fakes with reals. Where one of the classes is missing they are not defined, and are NaN:
        any number, such as the 0 that torchmetrics returns, would enter a mean unseen.

    Raises:
        ValueError: probabilities and labels are not of one shape (N,), are empty, hold NaN or something outside
            [0, 1] and {0, 1}, or ``bins`` is below 1.
    """
    # Here and not above: torchmetrics takes seconds to import.
    from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

    bins = check_count("bins", bins)
    probabilities, labels = check_scored(probabilities, labels)
    given, target = torch.from_numpy(probabilities), torch.from_numpy(labels)
    both = 0 < labels.sum() < len(labels)
    return Scores(
        accuracy=accuracy(probabilities, labels),
        auc=float(binary_auroc(given, target)) if both else float("nan"),
        eer=eer(probabilities, labels),
        ece=float(binary_calibration_error(given, target, n_bins=bins)),
    )
