"""What every detector gives back."""

from typing import NamedTuple

import torch


class Detection(NamedTuple):
    """Output of a detector for a batch of B crops.

    stages: feature maps (B, C, H, W), shallow to deep. embedding: (B, D), what the last linear layer sees. logits: (B, classes).
    """

    stages: tuple[torch.Tensor, ...]
    embedding: torch.Tensor
    logits: torch.Tensor
