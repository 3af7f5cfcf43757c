"""What every detector takes and gives back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


class Detection(NamedTuple):
    """Output of a detector for a batch of B crops.

    Attributes:
        stages: feature maps (B, C, H, W), shallow to deep.
        embedding: (B, D), what the last linear layer sees.
        logits: (B, classes).
    """

    stages: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor


def pooled(stage: Tensor) -> Tensor:
    """Mean of a map over its places, (B, C)."""
    return functional.adaptive_avg_pool2d(stage, 1).flatten(1)


def check_input(name: str, x: Tensor, *, smallest: int = 1, size: int | None = None) -> None:
    """Raise ValueError unless x is a batch of normalised RGB crops (B, 3, H, W), of this size or at least the smallest."""
    shape = tuple(x.shape)
    if x.ndim != 4 or shape[1] != 3:
        raise ValueError(f"{name} received a tensor of shape {shape}, expected a batch of RGB crops (B, 3, H, W)")
    if not x.is_floating_point():
        raise ValueError(f"{name} received {x.dtype}, expected floats; scale the crops as detectors.normalisation says")
    if size is not None and shape[2:] != (size, size):
        raise ValueError(
            f"{name} received crops of {shape[2]} × {shape[3]}, expected {size} × {size}: its filters are made for one size; "
            f"resize the crops, or create_detector({name!r}, size=...)"
        )
    if min(shape[2:]) < smallest:
        raise ValueError(f"{name} received crops of {shape[2]} × {shape[3]}, expected at least {smallest} × {smallest}")
