"""Distillation baselines: FitNet hints, attention transfer (AT), non-local features (NL) and soft targets (KD).

They are those of section C of the supplement of Le and Woo, "ADD" (AAAI 2022), and Hinton's. What the supplement leaves
open follows the published code where it is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from addlib.losses._checks import (
    check_choice,
    check_device,
    check_floating,
    check_map,
    check_pair,
    full_precision,
    working_dtype,
)
from addlib.losses.slices import SMALLEST_PEAK

HINT_VARIANTS = ("paper", "published")


def hint_loss(student: Tensor, teacher: Tensor, *, variant: str = "paper") -> Tensor:
    """Distance between the student's and the teacher's embedding, mean over the batch.

    Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015, eq. 3), applied to the penultimate layer.

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
    check_choice("variant", variant, HINT_VARIANTS)
    first, second = _rows(student, teacher, "embeddings (B, D)", "use HintLoss(student_width, teacher_width)")
    if variant == "published":
        return (_unit_rows(first.flatten(1)) - _unit_rows(second.flatten(1))).square().sum(1).mean()
    difference = (first - second).flatten(1).clamp(-(2.0**50), 2.0**50)
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
        check_choice("variant", variant, HINT_VARIANTS)
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
            with full_precision(student):
                student = self.regressor(student.to(self.regressor.weight.dtype))
        return hint_loss(student, teacher, variant=self.variant)


def attention_map(features: Tensor) -> Tensor:
    """Spatial attention of a batch of maps (B, C, H, W): squares summed over channels, each map of Euclidean length 1.

    Returns:
        (B, H, W), float32 (float64 if ``features`` is); zero for a map of zeros.
    """
    check_map("features", features)
    values = features.to(working_dtype(features))
    peak = values.detach().abs().amax((1, 2, 3), keepdim=True).clamp_min(SMALLEST_PEAK)
    summed = (values / peak).square().sum(1)
    return _unit_rows(summed.flatten(1)).view_as(summed)


def attention_transfer_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the normalised attention maps: the student looks where the teacher looks.

    Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017, activation-based, sum of squares over
    channels). With :func:`attention_map` q of each map the loss is the mean over batch and positions of
    (q_student - q_teacher)^2, the form of the published code of ADD; the paper of 2017 has the Euclidean norm of the
    difference instead of the mean of its squares.

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
    return (attention_map(student).to(dtype) - attention_map(teacher.detach()).to(dtype)).square().mean()


class AttentionTransferLoss(nn.Module):
    """:func:`attention_transfer_loss` as a module."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return attention_transfer_loss(student, teacher)


class NonLocalBlock(nn.Module):
    """Self-attention over the positions of a map (B, C, H, W) -> (B, C, H, W).

    Wang et al., "Non-local Neural Networks" (CVPR 2018, eq. 1 and 6, embedded Gaussian),

        y = softmax(theta(x)^T phi(x)) g(x),   output = x + gate * W y

    spectrally normalised, with a gate that is 0 at the start.

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

    The supplement of ADD describes it in one sentence; as in its published code, one block is shared by student and
    teacher and trained with the student, so that the loss starts as the mean squared difference of the maps.

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
    with full_precision(student), parametrize.cached():
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


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Knowledge distillation: divergence of the student's softened answer from the teacher's, mean over the batch.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), eq. 1-2: T^2 KL(p_T || p_S) with
    p = softmax(logits / T). It differs from their cross-entropy by a constant; T^2 keeps the size of its gradient when T
    changes.

    Args:
        student, teacher: logits (B, classes). No gradient reaches the teacher.
        temperature: T, more than 0.

    Returns:
        Scalar, float32 (float64 if an input is), in float32 or better also under autocast.

    Raises:
        ValueError: shapes or devices differ, an input is not floating point (B, classes), temperature is not positive.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature!r}, expected more than 0")
    first, second = _rows(student, teacher, "logits (B, classes)", "give both networks the same classes")
    answer, target = (first / temperature).log_softmax(1), (second / temperature).softmax(1)
    return temperature**2 * functional.kl_div(answer, target, reduction="batchmean")


class SoftTargetLoss(nn.Module):
    """:func:`soft_target_loss` with its ``temperature`` stored."""

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature is {temperature!r}, expected more than 0")
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_target_loss(student, teacher, temperature=self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


def _rows(student: Tensor, teacher: Tensor, expected: str, remedy: str) -> tuple[Tensor, Tensor]:
    """Both checked, (B, ...), in working precision, the teacher's without gradient."""
    for name, tensor in (("student", student), ("teacher", teacher)):
        if not isinstance(tensor, Tensor) or tensor.ndim < 2:
            received = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{name} is {received}, expected {expected}")
        check_floating(name, tensor)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher differ: {tuple(student.shape)} against {tuple(teacher.shape)}; {remedy}"
        )
    check_device(student, teacher)
    dtype = working_dtype(student, teacher)
    return student.to(dtype), teacher.detach().to(dtype)


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows (B, N) divided by their Euclidean norm; zero rows stay zero. No square under- or overflows on the way."""
    scaled = rows / rows.detach().abs().amax(1, keepdim=True).clamp_min(SMALLEST_PEAK)
    # A row whose peak is not below the smallest has a norm of at least 1 in units of its peak.
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1)
