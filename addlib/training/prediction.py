"""What a detector answers on a split, and how good that is."""

from __future__ import annotations

import contextlib
import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from addlib import metrics
from addlib.detectors import normalisation
from addlib.faceforensics.pairs import FacePairs, normalised

from .recipe import Recipe


HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # what autocast computes in, by Lightning's names


class Predictions(NamedTuple):
    """Answers on a split, in its order.

    Attributes:
        log_odds: log of the odds of fake, (N,) float64.
        embeddings: (N, D) float32.
        labels: (N,).
        videos: N names such as "Deepfakes/071_054".
        frames: N numbers of the crop in its video.
    """

    log_odds: Tensor
    embeddings: Tensor
    labels: Tensor
    videos: list[str]
    frames: list[int]

    @property
    def probabilities(self) -> Tensor:
        """Of fake, (N,) float64."""
        return self.log_odds.sigmoid()


def centre(crops: Tensor, margin: int) -> Tensor:
    """The middle of crops (..., H, W), ``margin`` pixels smaller."""
    first, last = margin // 2, margin - margin // 2
    return crops[..., first : crops.shape[-2] - last, first : crops.shape[-1] - last]


def choose_precision(precision: str, device) -> str:
    """Lightning's name of a precision; "auto" is bfloat16 autocast where the hardware has it, float16 on older GPUs.

    On a CPU "auto" asks for AVX-512: there bfloat16 is quicker even where it is emulated, by the measurement of
    tests/benchmarks/training.py; elsewhere float32.
    """
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "32-true"


def autocast(device, precision: str = "auto") -> contextlib.AbstractContextManager:
    """The context in which Lightning computes under a precision."""
    dtype = HALF.get(choose_precision(precision, device))
    return torch.autocast(torch.device(device).type, dtype) if dtype else contextlib.nullcontext()


def frozen_copy(teacher: nn.Module, precision: str) -> nn.Module:
    """A teacher that only answers, in evaluation mode; the one given stays as it is.

    Its kernels are stored in autocast's format, to which autocast would convert them anew in every step: the same bits.
    """
    frozen = copy.deepcopy(teacher).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    for module in frozen.modules() if type(teacher).__module__.startswith("addlib.") else ():
        if isinstance(module, nn.Conv2d):
            module.to(HALF.get(precision))
    return frozen


@torch.no_grad()
def predict(
    detector: nn.Module, pairs: FacePairs, recipe: str | Recipe, *, side: str = "compressed", batch_size: int = 144,
    precision: str = "auto",
) -> Predictions:  # fmt: skip
    """Predictions of a detector on pairs, in evaluation mode, without mirroring or shifting.

    Args:
        detector: on any device; batches are sent there.
        pairs: of a split, on disk or on any device.
        recipe: name or Recipe, for the window of the crops.
        side: "compressed" or "raw".
        batch_size: crops at a time.
        precision: as for ``fit_detector``.

    Raises:
        ValueError: another side.
    """
    if side not in ("raw", "compressed"):
        raise ValueError(f"side is {side!r}; expected 'raw' or 'compressed'")
    recipe = Recipe.named(recipe)
    device = next(detector.parameters()).device
    was_training = detector.training
    detector.eval()
    odds, embeddings = [], []
    for raw, compressed, _ in pairs.batches(batch_size, shuffle=False, raw=side == "raw"):
        crops = centre(raw if side == "raw" else compressed, recipe.shift).to(device)
        with autocast(device, precision):
            answer = detector(normalised(crops, *normalisation(detector.name)))
        logits = answer.logits.double()
        odds.append((logits[:, 1] - logits[:, 0]).cpu())
        embeddings.append(answer.embedding.float().cpu())
    detector.train(was_training)
    videos, frames = list(pairs.videos), [int(frame) for frame in pairs.frames]
    return Predictions(torch.cat(odds), torch.cat(embeddings), pairs.labels.cpu(), videos, frames)


def evaluate(predictions: Predictions) -> dict[str, float]:
    """Metrics of predictions at frame and at video level; NaN where one is not defined, as an AUC of one class.

    Returns:
        ``accuracy``, ``auc``, ``eer``, ``ece``, ``recall_at_1``, ``recall_at_1_other``, ``video_accuracy``, ``video_auc``.
        recall_at_1 is test to test, as the paper says: the nearest other frame of the same split. That is nearly always a
        frame of the same video; recall_at_1_other looks among the other videos only.
    """
    found = metrics.scores(predictions.probabilities, predictions.labels)._asdict()
    embeddings, labels, names = predictions.embeddings, predictions.labels, predictions.videos
    found["recall_at_1"] = metrics.recall_at_1(embeddings, labels) if len(labels) > 1 else float("nan")
    several = len(set(names)) > 1
    found["recall_at_1_other"] = metrics.recall_at_1(embeddings, labels, exclude=names) if several else float("nan")
    videos = metrics.by_video(predictions.probabilities, labels, names)
    video = metrics.scores(videos.probabilities, videos.labels)
    return found | {"video_accuracy": video.accuracy, "video_auc": video.auc}
