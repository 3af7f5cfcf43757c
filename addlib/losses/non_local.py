"""Non-local distillation (NL), a baseline: the student's self-attention features imitate the teacher's.

The block is that of Wang et al., "Non-local Neural Networks" (CVPR 2018, eq. 1 and 6, embedded Gaussian),

    y = softmax(theta(x)^T phi(x)) g(x),   output = x + gate * W y

and its use for distillation is in section C of the supplement of Le and Woo, "ADD" (AAAI 2022), in one sentence. What
that leaves open follows the published code where it is known: one block for each stage, shared by student and teacher
and trained with the student, spectrally normalised, its gate 0 at the start, so that the loss starts as the mean
squared difference of the maps themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from addlib.losses._maps import check_map, check_pair


class NonLocalBlock(nn.Module):
    """Self-attention over the positions of a map (B, C, H, W) -> (B, C, H, W).

    Args:
        channels: C.
        reduction: theta, phi and g have C / reduction channels (at least 1).

    Raises:
        ValueError: channels or reduction below 1; a map with another number of channels.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels={channels} and reduction={reduction}, expected at least 1 each")
        inner = max(channels // reduction, 1)
        self.channels = channels
        self.theta = spectral_norm(nn.Conv2d(channels, inner, 1, bias=False))
        self.phi = spectral_norm(nn.Conv2d(channels, inner, 1, bias=False))
        self.g = spectral_norm(nn.Conv2d(channels, inner, 1, bias=False))
        self.out = spectral_norm(nn.Conv2d(inner, channels, 1, bias=False))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        check_map("features", features)
        if features.shape[1] != self.channels:
            raise ValueError(
                f"features have {features.shape[1]} channels, expected {self.channels}; one block for each stage"
            )
        theta, phi, g = (layer(features).flatten(2) for layer in (self.theta, self.phi, self.g))
        attention = torch.bmm(theta.transpose(1, 2), phi).softmax(2)
        gathered = torch.bmm(g, attention.transpose(1, 2))
        return features + self.gate * self.out(gathered.unflatten(2, features.shape[2:]))


def non_local_loss(student: Tensor, teacher: Tensor, block: nn.Module) -> Tensor:
    """Mean squared difference between the block's output on the student's and on the teacher's map.

    Args:
        student, teacher: maps (B, C, H, W), floating point, of one shape.
        block: shared by both; its parameters get gradients through the student's side only, and the teacher none.

    Returns:
        Scalar in the precision of the block's parameters, also under autocast.

    Raises:
        ValueError: maps differ, or have another number of channels than the block.
    """
    check_pair(student, teacher)
    dtype = next((parameter.dtype for parameter in block.parameters()), torch.float32)
    # Cached, so that the power iteration of the spectral norm runs once and both sides see the same weights.
    with torch.autocast(student.device.type, enabled=False), parametrize.cached():
        prediction = block(student.to(dtype))
        with torch.no_grad():
            target = block(teacher.to(dtype))
    return (prediction - target).square().mean()


class NonLocalLoss(nn.Module):
    """:func:`non_local_loss` summed over stages, with a block for each.

    Args:
        channels: number of channels of every stage.
        reduction: as :class:`NonLocalBlock`.

    Give the module's parameters to the student's optimiser.
    """

    def __init__(self, channels: Sequence[int], reduction: int = 8) -> None:
        super().__init__()
        if not len(channels):
            raise ValueError("channels are empty, expected the number of channels of every stage")
        self.blocks = nn.ModuleList(NonLocalBlock(count, reduction) for count in channels)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        if len(student) != len(self.blocks) or len(teacher) != len(self.blocks):
            raise ValueError(
                f"{len(student)} student and {len(teacher)} teacher stages, expected {len(self.blocks)} of each"
            )
        maps = zip(student, teacher, self.blocks, strict=True)
        return torch.stack([non_local_loss(first, second, block) for first, second, block in maps]).sum()
