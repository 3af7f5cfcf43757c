"""What a detector answers on a split, and how good that is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from addlib import metrics
from addlib.detectors import normalisation

from .loading import EpochLoader
from .precision import autocast
from .recipe import Recipe
from .task import centre


class Predictions(NamedTuple):
    """Answers on a split, in its order. probabilities: of fake, (N,) float64. embeddings: (N, D) float32. labels: (N,).
    videos: N names such as "Deepfakes/071_054". frames: N numbers of the crop in its video."""

    probabilities: Tensor
    embeddings: Tensor
    labels: Tensor
    videos: list[str]
    frames: list[int]


@torch.no_grad()
def predict(detector, pairs, recipe, *, side="compressed", batch_size=144, precision="auto") -> Predictions:
    """Predictions of a detector on pairs, in evaluation mode, without mirroring or shifting.

    detector: on any device; batches are sent there. pairs: ResidentPairs or FacePairs. recipe: name or Recipe, for the
    window of the crops. side: "compressed" or "raw". precision: as for ``fit_detector``.
    """
    if side not in ("raw", "compressed"):
        raise ValueError(f"side is {side!r}; expected 'raw' or 'compressed'")
    recipe = Recipe.named(recipe)
    device = next(detector.parameters()).device
    loader = EpochLoader(pairs, batch_size, normalise=normalisation(detector.name), training=False)
    was_training = detector.training
    detector.eval()
    probabilities, embeddings = [], []
    for raw, compressed, _ in loader:
        crops = centre(raw if side == "raw" else compressed, recipe.shift).to(device)
        with autocast(device, precision):
            answer = detector(crops)
        logits = answer.logits.double()
        probabilities.append((logits[:, 1] - logits[:, 0]).sigmoid().cpu())
        embeddings.append(answer.embedding.float().cpu())
    detector.train(was_training)
    videos, frames = (list(values) for values in (pairs.videos, map(int, pairs.frames)))
    return Predictions(torch.cat(probabilities), torch.cat(embeddings), pairs.labels.cpu(), videos, frames)


def evaluate(predictions: Predictions) -> dict[str, float]:
    """Metrics of predictions at frame level (accuracy, auc, eer, ece, recall_at_1) and at video level (video_accuracy, video_auc).

    recall_at_1 is test to test, as the paper says: the nearest other frame of the same split. That is nearly always a frame of
    the same video; recall_at_1_other looks among the other videos only.
    """
    found = metrics.scores(predictions.probabilities, predictions.labels)._asdict()
    found["recall_at_1"] = metrics.recall_at_1(predictions.embeddings, predictions.labels)
    found["recall_at_1_other"] = metrics.recall_at_1(
        predictions.embeddings, predictions.labels, exclude=predictions.videos
    )
    videos = metrics.by_video(predictions.probabilities, predictions.labels, predictions.videos)
    video = metrics.scores(videos.probabilities, videos.labels)
    return found | {"video_accuracy": video.accuracy, "video_auc": video.auc}
