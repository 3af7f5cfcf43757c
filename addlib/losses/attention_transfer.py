"""Attention transfer (AT), a distillation baseline: the student looks where the teacher looks.

Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017, activation-based, sum of squares over
channels), as in section C of the supplement of Le and Woo, "ADD" (AAAI 2022). With a map's attention

    q(y, x) = sum over c of A(c, y, x)^2,   normalised to Euclidean length 1 over the positions (y, x)

the loss is the mean over batch and positions of (q_student - q_teacher)^2. This is the form of the published code of
ADD; the paper of 2017 has the Euclidean norm of the difference instead of the mean of its squares.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from addlib.losses._maps import check_device, check_map, working_dtype
from addlib.losses.hint import SMALLEST_PEAK, unit_rows


def attention_map(features: Tensor) -> Tensor:
    """Spatial attention of a batch of maps (B, C, H, W): squares summed over channels, each map of Euclidean length 1.

    Returns:
        (B, H, W), float32 (float64 if ``features`` is); zero for a map of zeros.
    """
    check_map("features", features)
    values = features.to(working_dtype(features))
    peak = values.detach().abs().amax((1, 2, 3), keepdim=True).clamp_min(SMALLEST_PEAK)
    summed = (values / peak).square().sum(1)
    return unit_rows(summed.flatten(1)).view_as(summed)


def attention_transfer_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the normalised attention maps.

    Args:
        student, teacher: maps (B, C, H, W), floating point; the numbers of channels may differ. No gradient reaches
            the teacher.

    Returns:
        Scalar, float32 (float64 if an input is), in float32 or better also under autocast; scaling a map changes
        nothing.

    Raises:
        ValueError: batch, height, width or device differ, or an input is not a floating-point map (B, C, H, W).
    """
    check_map("student", student)
    check_map("teacher", teacher)
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"student and teacher maps differ: {tuple(student.shape)} against {tuple(teacher.shape)}, expected the "
            "same B, H and W; choose the stages that match, or resize one map"
        )
    check_device(student, teacher)
    dtype = working_dtype(student, teacher)
    with torch.no_grad():
        target = attention_map(teacher).to(dtype)
    return (attention_map(student).to(dtype) - target).square().mean()


class AttentionTransferLoss(nn.Module):
    """:func:`attention_transfer_loss` as a module."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return attention_transfer_loss(student, teacher)
