"""Hint learning (FitNet), a distillation baseline: the student's embedding predicts the teacher's.

Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015, eq. 3), applied to the penultimate layer as in section C
of the supplement of Le and Woo, "ADD" (AAAI 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from addlib.losses._maps import check_choice, check_device, check_floating, working_dtype

VARIANTS = ("paper", "published")

# Rows whose largest modulus is below this count as having no direction.
SMALLEST_PEAK = 1e-12


def hint_loss(student: Tensor, teacher: Tensor, *, variant: str = "paper") -> Tensor:
    """Distance between the student's and the teacher's embedding, mean over the batch.

    Args:
        student, teacher: embeddings (B, D), or any (B, ...) of one shape, floating point. No gradient reaches the
            teacher. If the widths differ, use :class:`HintLoss`, which holds a regressor.
        variant: ``"paper"``: half the squared Euclidean distance, FitNets eq. 3. ``"published"``: what the published
            code of ADD calls FitNet, 2 - 2 cos of the angle between the embeddings, computed as the squared distance
            of the normalised ones; blind to scale. An embedding of zeros is normalised to zeros.

    Returns:
        Scalar, float32 (float64 if an input is), in float32 or better also under autocast; finite for every finite
        input (differences beyond 2^50 count as 2^50).

    Raises:
        ValueError: shapes or devices differ, an input has no batch axis, is empty or not floating point, or
            ``variant`` is unknown.
    """
    check_choice("variant", variant, VARIANTS)
    for name, tensor in (("student", student), ("teacher", teacher)):
        if not isinstance(tensor, Tensor) or tensor.ndim < 2:
            received = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{name} is {received}, expected embeddings (B, D)")
        check_floating(name, tensor)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher embeddings differ: {tuple(student.shape)} against {tuple(teacher.shape)}; "
            "use HintLoss(student_width, teacher_width), which learns a projection"
        )
    check_device(student, teacher)
    dtype = working_dtype(student, teacher)
    first, second = student.to(dtype).flatten(1), teacher.detach().to(dtype).flatten(1)
    if variant == "published":
        return (unit_rows(first) - unit_rows(second)).square().sum(1).mean()
    difference = (first - second).clamp(-(2.0**50), 2.0**50)
    return difference.square().sum(1).mean() / 2


class HintLoss(nn.Module):
    """:func:`hint_loss` behind a linear regressor, where the student's embedding is not as wide as the teacher's.

    Args:
        student_width, teacher_width: D of the embeddings (B, D). With both None, or equal, there is no regressor.
        variant: as :func:`hint_loss`.

    The regressor's weights are trained with the student: give the module's parameters to the optimiser.

    Raises:
        ValueError: one width is given without the other, or a width is below 1.
    """

    def __init__(
        self, student_width: int | None = None, teacher_width: int | None = None, variant: str = "paper"
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        if (student_width is None) != (teacher_width is None):
            raise ValueError(
                f"widths are {student_width} and {teacher_width}, expected both or neither; a regressor needs both"
            )
        if student_width is not None and min(student_width, teacher_width) < 1:
            raise ValueError(f"widths are {student_width} and {teacher_width}, expected at least 1")
        self.variant = variant
        same = student_width == teacher_width
        self.regressor = nn.Identity() if same else nn.Linear(student_width, teacher_width)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        if isinstance(self.regressor, nn.Linear):
            with torch.autocast(student.device.type, enabled=False):
                student = self.regressor(student.to(self.regressor.weight.dtype))
        return hint_loss(student, teacher, variant=self.variant)


def unit_rows(rows: Tensor) -> Tensor:
    """Rows (B, N) divided by their Euclidean norm; zero rows stay zero. No square under- or overflows on the way."""
    scaled = rows / rows.detach().abs().amax(1, keepdim=True).clamp_min(SMALLEST_PEAK)
    # A row whose peak is not below the smallest has a norm of at least 1 in units of its peak.
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1)
