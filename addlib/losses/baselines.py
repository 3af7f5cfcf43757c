"""Baselines of ADD (AAAI 2022, supplement C): FitNet hints, attention transfer, non-local features; and soft targets.

Where papers leave something open, the published code of ADD is followed. All are in float32 or better, under autocast too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from ._checks import check_choice, check_maps, check_number, check_whole, received, working_dtype
from .slices import SMALLEST_PEAK


def hint_loss(student: Tensor, teacher: Tensor, *, variant: str = "paper") -> Tensor:
    """Half the squared distance of embeddings (B, D), mean over the batch: FitNets, Romero et al. (ICLR 2015), eq. 3.

    ``variant="published"`` is what the published code of ADD calls FitNet: that of the normalised ones, 2 - 2 cos.
    """
    check_choice("variant", variant, ("paper", "published"))
    first, second = _rows(student, teacher)
    if variant == "published":
        return (_unit_rows(first) - _unit_rows(second)).square().sum(1).mean()
    return (first - second).clamp(-(2.0**50), 2.0**50).square().sum(1).mean() / 2


class HintLoss(nn.Module):
    """:func:`hint_loss` behind a linear regressor, trained with the student, if its widths (D) differ."""

    def __init__(self, student_width: int | None = None, teacher_width: int | None = None, variant: str = "paper"):
        super().__init__()
        check_choice("variant", variant, ("paper", "published"))
        self.variant = variant
        for width in (student_width, teacher_width) if student_width != teacher_width else ():
            check_whole("a width", width)
        self.regressor = nn.Identity() if student_width == teacher_width else nn.Linear(student_width, teacher_width)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        if isinstance(self.regressor, nn.Linear):
            with torch.autocast(student.device.type, enabled=False):
                student = self.regressor(student.to(self.regressor.weight.dtype))
        return hint_loss(student, teacher, variant=self.variant)


def attention_map(features: Tensor) -> Tensor:
    """Spatial attention (B, H, W) of maps (B, C, H, W): squares summed over channels, of Euclidean length 1 (or 0)."""
    check_maps(features=features)
    values = features.to(working_dtype(features))
    peak = values.detach().abs().amax((1, 2, 3), keepdim=True).clamp_min(SMALLEST_PEAK)
    summed = (values / peak).square().sum(1)
    return _unit_rows(summed.flatten(1)).view_as(summed)


def attention_transfer_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the attention maps of maps (B, C, H, W), which may differ in C.

    Zagoruyko and Komodakis (ICLR 2017) have its Euclidean norm; this is the form of the published code of ADD.
    """
    first, second = attention_map(student), attention_map(teacher).detach()
    check_maps("(B, H, W)", (3,), student=first, teacher=second)
    return (first - second).square().mean()


class AttentionTransferLoss(nn.Module):
    """:func:`attention_transfer_loss` as a module."""

    forward = staticmethod(attention_transfer_loss)


class NonLocalBlock(nn.Module):
    """x + gate * W softmax(theta(x)^T phi(x)) g(x) over the positions of a map x (B, C, H, W).

    Wang et al., "Non-local Neural Networks" (CVPR 2018), eq. 1 and 6, spectrally normalised; the gate is 0 at the start.
    """

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        inner = max(channels // reduction, 1)
        self.theta, self.phi, self.g = (spectral_norm(nn.Conv2d(channels, inner, 1, bias=False)) for _ in range(3))
        self.out = spectral_norm(nn.Conv2d(inner, channels, 1, bias=False))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        theta, phi, g = (layer(features).flatten(2) for layer in (self.theta, self.phi, self.g))
        attention = torch.bmm(theta.transpose(1, 2), phi).softmax(2)
        gathered = torch.bmm(g, attention.transpose(1, 2))
        return features + self.gate * self.out(gathered.unflatten(2, features.shape[2:]))


def non_local_loss(student: Tensor, teacher: Tensor, block: nn.Module) -> Tensor:
    """Mean squared difference of the outputs of ``block`` for both maps (B, C, H, W); it learns by the student's only."""
    check_maps(student=student, teacher=teacher)
    dtype = next((parameter.dtype for parameter in block.parameters()), torch.float32)
    # Cached, so that the power iteration of the spectral norm runs once and both sides see the same weights.
    with torch.autocast(student.device.type, enabled=False), parametrize.cached():
        prediction = block(student.to(dtype))
        with torch.no_grad():
            target = block(teacher.to(dtype))
    return (prediction - target).square().mean()


class NonLocalLoss(nn.Module):
    """:func:`non_local_loss` summed over stages, with a block, trained with the student, for the channels of each."""

    def __init__(self, channels: Sequence[int], reduction: int = 8):
        super().__init__()
        self.blocks = nn.ModuleList(NonLocalBlock(count, reduction) for count in channels)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        return torch.stack([non_local_loss(*each) for each in zip(student, teacher, self.blocks, strict=True)]).sum()


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 KL(p_teacher || p_student) with p = softmax(logits / T) of logits (B, classes), mean over the batch.

    Hinton, Vinyals and Dean (2015), eq. 1-2, but for a constant. T^2 keeps the size of the gradient when T changes.
    """
    check_number("temperature", temperature, positive=True)
    check_maps("(B, classes)", (2,), student=student, teacher=teacher)
    if student.shape[1] < 2:
        raise ValueError(f"student is {received(student)}, expected logits of two classes or more; of one it is torch.cat([0 * x, x], 1)")
    first, second = _rows(student, teacher)
    answer, target = (first / temperature).log_softmax(1), (second / temperature).softmax(1)
    return temperature**2 * functional.kl_div(answer, target, reduction="batchmean")


class SoftTargetLoss(nn.Module):
    """:func:`soft_target_loss` with its ``temperature`` stored."""

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = check_number("temperature", temperature, positive=True)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_target_loss(student, teacher, temperature=self.temperature)


def _rows(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both checked, (B, N), in working precision, the teacher's without gradient."""
    check_maps("(B, N)", range(2, 9), student=student, teacher=teacher)
    dtype = working_dtype(student, teacher)
    return student.to(dtype).flatten(1), teacher.detach().to(dtype).flatten(1)


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows (B, N) divided by their Euclidean norm; zero rows stay zero. No square under- or overflows on the way."""
    scaled = rows / rows.detach().abs().amax(1, keepdim=True).clamp_min(SMALLEST_PEAK)
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1)
