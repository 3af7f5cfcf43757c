"""What a detector answers on a split, and how good that is."""

import copy
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from addlib import metrics
from addlib.detectors import normalisation
from addlib.detectors.base import check_detectors
from addlib.faceforensics.pairs import FacePairs, normalised

from .hardware import autocast
from .recipe import Recipe


class Predictions(NamedTuple):
    """Answers on a split, in its order: N numbers, (N, D) embeddings, N names and frames of videos."""

    log_odds: Tensor  #: log of the odds of fake, float64
    embeddings: Tensor  #: float32
    labels: Tensor
    videos: list[str]  #: such as "Deepfakes/071_054"
    frames: list[int]  #: numbers of the crop in its video

    @property
    def probabilities(self) -> Tensor:
        """Of fake, (N,) float64."""
        return self.log_odds.sigmoid()

    def table(self, split: str) -> pd.DataFrame:
        """All but the embeddings, as columns."""
        where = {"split": split, "video": self.videos, "frame": self.frames, "label": self.labels.numpy()}
        odds = {"probability": self.probabilities.numpy().round(6), "log_odds": self.log_odds.numpy().round(6)}
        return pd.DataFrame(where | odds)


def centre(crops: Tensor, margin: int) -> Tensor:
    """The middle of crops (..., H, W), ``margin`` pixels smaller."""
    height, width = (side - margin for side in crops.shape[-2:])
    return crops[..., margin // 2 :, margin // 2 :][..., :height, :width]


@torch.no_grad()
def answers(detector: nn.Module, batches: Iterable[Tensor], shift: int, precision: str) -> tuple[Tensor, Tensor]:
    """Log odds and embeddings of batches of crops, uint8 (B, 3, S, S), on the CPU; the detector is left in its mode.

    Raises ValueError for what is no detector of two classes.
    """
    check_detectors(detector)
    device, network, found = next(detector.parameters()).device, copy.deepcopy(detector).eval(), []
    for crops in batches:
        with autocast(device, precision):
            answer = network(normalised(centre(crops, shift).to(device), *normalisation(detector.name)))
        logits = answer.logits.double()
        found.append(((logits[:, 1] - logits[:, 0]).cpu(), answer.embedding.float().cpu()))
    return tuple(map(torch.cat, zip(*found, strict=True)))


def predict(
    detector: nn.Module, pairs: FacePairs, recipe: str | Recipe, *, side: str = "compressed", batch_size: int = 144,
    precision: str = "auto",
) -> Predictions:  # fmt: skip
    """Predictions of a detector, on its device, for pairs of a split, in evaluation mode, without mirroring or shifting.

    Args:
        recipe: name or Recipe, for the window of the crops.
        side: "compressed" or "raw"; ValueError for another.
        precision: as for ``fit_student``.
    """
    if side not in ("raw", "compressed"):
        raise ValueError(f"side is {side!r}; expected 'raw' or 'compressed'")
    both = pairs.batches(batch_size, shuffle=False, raw=side == "raw")
    crops = (raw if side == "raw" else compressed for raw, compressed, _ in both)
    odds, embeddings = answers(detector, crops, Recipe.named(recipe).shift, precision)
    return Predictions(odds, embeddings, pairs.labels, list(pairs.videos), pairs.frames.tolist())


def evaluate(predictions: Predictions) -> dict[str, float]:
    """Metrics of predictions at frame and at video level by name; NaN where one is not defined, as an AUC of one class.

    recall_at_1 is test to test, as the paper says: the nearest other frame of the same split. That is nearly always a frame of
    the same video; recall_at_1_other looks among the other videos only.
    """
    _, embeddings, labels, names, _ = predictions
    found = metrics.scores(predictions.probabilities, labels)._asdict()
    found["recall_at_1"] = metrics.recall_at_1(embeddings, labels) if len(labels) > 1 else float("nan")
    several = len(set(names)) > 1
    found["recall_at_1_other"] = metrics.recall_at_1(embeddings, labels, exclude=names) if several else float("nan")
    videos = metrics.by_video(predictions.probabilities, labels, names)
    video = metrics.scores(videos.probabilities, videos.labels)
    return found | {"video_accuracy": video.accuracy, "video_auc": video.auc}
