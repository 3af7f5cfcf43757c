"""What every detector takes and gives back."""

from typing import NamedTuple

import torch


class Detection(NamedTuple):
    """Output of a detector for a batch of B crops.

    stages: feature maps (B, C, H, W), shallow to deep. embedding: (B, D), what the last linear layer sees. logits: (B, classes).
    """

    stages: tuple[torch.Tensor, ...]
    embedding: torch.Tensor
    logits: torch.Tensor


def check_input(name, x, *, smallest=1, size=None):
    """Raise ValueError unless ``x`` is a batch of normalised RGB crops (B, 3, H, W).

    name: of the detector, for the message. smallest: least height and width. size: the only height and width, or None.
    """
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
