"""Frequency attention: distance of two feature maps in the frequency domain, weighted where it is large.

Equations 1-3 of Le and Woo, "ADD: Frequency Attention and Multi-View Based Knowledge Distillation to Detect
Low-Quality Compressed Deepfake Images" (AAAI 2022). With the discrete Fourier transform F of every channel,

    d(c, u, v) = |F student(c, u, v) - F teacher(c, u, v)|^2
    e(u, v)    = sum over c of d(c, u, v)                         energy
    w(u, v)    = exp(gamma / C * e(u, v))                         eq. 3, a constant for the gradient
    loss       = sum over c, u, v of w(u, v) d(c, u, v)           eq. 2; here the mean over the batch

:func:`plain_frequency_loss` is these lines. What the paper leaves open is settled as in the published code: the
transform is divided by HW (``norm="forward"``), without which exp() leaves the range of float32 at once, and no gradient
flows through the weight, unless asked for.

The rest of the file computes the same faster. F is linear, so one transform of the difference is enough, and the
difference is real, so half of the frequencies are. The gradient is F^-1(w F difference) times 2 / (HW): the difference,
convolved with the kernel whose transform is w. (With a gradient through the weight, w becomes w (1 + gamma / C * e).)
Small maps need no transform: the energies are the transform of the circular autocorrelation, a sum over the HW x HW Gram
matrix of the difference, and the convolution is a product with an HW x HW circulant matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from addlib.losses._checks import (
    check_number,
    check_pair,
    chunks,
    exact_matmul,
    full_precision,
    is_half,
    to_range,
    untraced,
    wants_gradient,
    working_dtype,
)

MAX_DIFFERENCE = 2.0**50
MAX_EXPONENT = 40.0

# Time for one element on a CPU, in nanoseconds: the Gram path grows with HW (0.7 + 0.04 HW), the FFT path hardly does
# (7 to 11 for maps between 4x4 and 16x16). They meet near HW = 150.
GRAM_MAX_POSITIONS = 144


def plain_frequency_loss(student: Tensor, teacher: Tensor, gamma: float, detach_weight: bool = True) -> Tensor:
    """Equations 1-3 as they stand, for maps (B, C, H, W); differentiable any number of times."""
    spectrum = torch.fft.fft2(student - teacher, norm="forward")  # eq. 1, once for both maps
    distance = torch.view_as_real(spectrum).square().sum(4)
    energy = distance.sum(1)
    weight = _weight(energy, gamma, student.shape[1])  # eq. 3
    if detach_weight:
        weight = weight.detach()
    return (weight * energy).sum((1, 2)).mean()  # eq. 2


class FrequencyAttention(NamedTuple):
    """What the frequency loss sees, for plots: both tensors are (B, H, W), zero frequency at index (0, 0)."""

    weight: Tensor
    energy: Tensor


@untraced
def frequency_attention(student: Tensor, teacher: Tensor, *, gamma: float = 1.0) -> FrequencyAttention:
    """Weight map w(u, v) and energies e(u, v) of eq. 2 and 3.

    Args:
        student, teacher: maps (B, C, H, W), floating point.
        gamma: exponent of the weight per unit of mean squared modulus, at least 0.

    Returns:
        ``(weight, energy)``, each (B, H, W), float64, without gradient. ``energy`` is summed over the channels;
        ``(weight * energy).sum((1, 2)).mean()`` is the loss. Shift with ``torch.fft.fftshift(..., dim=(1, 2))`` to
        see the zero frequency in the middle.

    Raises:
        ValueError: as :func:`frequency_attention_loss`.
    """
    check_pair(student, teacher)
    gamma = check_number("gamma", gamma)
    with torch.no_grad(), full_precision(student):
        half = _energies(student, teacher)
        weight = _weight(half, gamma, student.shape[1])
    return FrequencyAttention(*(_whole_plane(values, student.shape[3]) for values in (weight, half)))


@untraced
def frequency_attention_loss(
    student: Tensor, teacher: Tensor, *, gamma: float = 1.0, detach_weight: bool = True
) -> Tensor:
    """Frequency attention loss, eq. 2 and 3 of the paper.

    Sum over channels and frequencies, mean over the batch, DFT divided by HW. The weight is a constant for the
    gradient, and for a second derivative. Paper and published code agree once these conventions are fixed. With
    ``gamma=0`` the loss is the squared Euclidean distance of the maps divided by HW (Parseval).

    Args:
        student, teacher: maps (B, C, H, W), floating point, of one shape. The teacher receives no gradient.
        gamma: gamma_FR, at least 0. The paper uses 1 (1e-3 for EfficientNet-B0).
        detach_weight: False lets the gradient through the weight as well, which the paper does not say to leave out.
            Same value, gradient larger at every frequency by the factor 1 + gamma / C * e.

    Returns:
        Scalar, float32 (float64 if an input is).

    Finite for every finite input: differences beyond 2^50 count as 2^50, the exponent stops at 40 (a weight of
    2.4e17, at which no training survives), and a value or a half-precision gradient outside its range saturates. These
    limits are for arithmetic only; lower gamma if the weights explode. Computed in float32 or better, also under
    autocast; the result does not depend on TF32 settings.

    Raises:
        ValueError: shapes or devices differ, a map is not (B, C, H, W), is empty or not floating point, gamma < 0.
    """
    check_pair(student, teacher)
    gamma, teacher = check_number("gamma", gamma), teacher.detach()
    if wants_gradient(student):
        # A tensor made in inference mode cannot be kept for a gradient; its copy can.
        return _FrequencyLoss.apply(student, teacher.clone() if teacher.is_inference() else teacher, gamma, detach_weight)
    return _value_and_slopes(student.detach(), teacher, gamma, detach_weight)[0]


class FrequencyAttentionLoss(nn.Module):
    """:func:`frequency_attention_loss` with its ``gamma`` and ``detach_weight`` stored."""

    def __init__(self, gamma: float = 1.0, detach_weight: bool = True) -> None:
        super().__init__()
        self.gamma, self.detach_weight = check_number("gamma", gamma), detach_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return frequency_attention_loss(student, teacher, gamma=self.gamma, detach_weight=self.detach_weight)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}, detach_weight={self.detach_weight}"


class _FrequencyLoss(torch.autograd.Function):
    """The loss with its gradient in closed form, and in the plain form where that gradient is to be differentiated."""

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, gamma: float, detach_weight: bool) -> Tensor:
        ctx.settings = gamma, detach_weight
        value, slopes = _value_and_slopes(student, teacher, gamma, detach_weight)
        ctx.save_for_backward(student, teacher, slopes)
        return value

    @staticmethod
    def backward(ctx, upstream: Tensor):
        student, teacher, slopes = ctx.saved_tensors
        with full_precision(student):
            if torch.is_grad_enabled():
                dtype = working_dtype(student, teacher)
                loss = plain_frequency_loss(student.to(dtype), teacher.to(dtype), *ctx.settings)
                (gradient,) = torch.autograd.grad(loss, student, upstream, create_graph=True)
            else:
                gradient = _gradient(student, teacher, slopes, upstream)
        return gradient, None, None, None


def _value_and_slopes(student: Tensor, teacher: Tensor, gamma: float, detach_weight: bool) -> tuple[Tensor, Tensor]:
    """The loss, and what multiplies the gradient of d at every frequency of the half plane."""
    with full_precision(student):
        energy = _energies(student, teacher)
        weight = _weight(energy, gamma, student.shape[1])
        total = (_multiplicity(student) * weight * energy).sum((1, 2)).mean()
        if not detach_weight:
            exponent = energy * (gamma / student.shape[1])
            weight = weight * (1 + exponent.masked_fill_(exponent > MAX_EXPONENT, 0))
    dtype = working_dtype(student, teacher)
    return total.clamp(max=torch.finfo(dtype).max).to(dtype), weight


def _gradient(student: Tensor, teacher: Tensor, slopes: Tensor, upstream: Tensor) -> Tensor:
    batch, _, height, width = student.shape
    scale = 2 / (height * width * batch)
    dtype = working_dtype(student, teacher)
    # The scale of a half-precision loss is multiplied after saturating, so that GradScaler still sees it overflow.
    half = is_half(student)
    weight = slopes * (scale if half else scale * upstream.double())
    gram = _use_gram(student, teacher)
    if gram:
        weight = _circulant(weight, width).to(dtype)
    else:  # once for the real and once for the imaginary part
        weight = weight.to(dtype)[:, None, :, :, None].repeat(1, 1, 1, 1, 2)
    gradient = torch.empty_like(student)
    for part in chunks(student):
        result = _difference(student[part], teacher[part])
        if gram:
            result = torch.bmm(result.flatten(2), weight[part]).view_as(result)
        else:
            result = torch.fft.rfft2(result, norm="forward")
            torch.view_as_real(result).mul_(weight[part])
            result = torch.fft.irfft2(result, s=(height, width), norm="forward")
        if half:
            result = to_range(result, student.dtype).mul_(upstream)
        gradient[part] = result.to(gradient.dtype)
        del result  # before the next chunk takes as much again
    return gradient


def _use_gram(student: Tensor, teacher: Tensor) -> bool:
    """Whether the Gram matrix is cheaper than the FFT, and as exact."""
    channels, positions = student.shape[1], student.shape[2] * student.shape[3]
    exact = exact_matmul(student) or teacher.dtype == torch.float64
    return exact and positions <= GRAM_MAX_POSITIONS and positions <= 2 * channels


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Contiguous student - teacher, in working precision, with squares that float32 can sum."""
    dtype = working_dtype(student, teacher)
    difference = torch.sub(student.to(dtype), teacher.to(dtype)).clamp_(-MAX_DIFFERENCE, MAX_DIFFERENCE)
    return difference.contiguous()


def _energies(student: Tensor, teacher: Tensor) -> Tensor:
    """e(u, v) for v = 0 .. W // 2: (B, H, W // 2 + 1), float64."""
    batch, _, height, width = student.shape
    energy = student.new_empty((batch, height, width // 2 + 1), dtype=torch.float64)
    gram = _use_gram(student, teacher)
    if gram:  # row t lists where the flattened Gram matrix pairs a position with the one circularly t further
        positions = torch.arange(height * width, device=student.device)
        shifted = _shifts(height, width, 1, student.device) + positions * len(positions)
    for part in chunks(student):
        difference = _difference(student[part], teacher[part])
        if gram:
            flat = difference.flatten(2)
            products = torch.bmm(flat.transpose(1, 2), flat).flatten(1)
            correlation = products[:, shifted].sum(2, dtype=torch.float64).unflatten(1, (height, width))
            energy[part] = torch.fft.rfft2(correlation).real.clamp_(min=0).div_((height * width) ** 2)
        else:
            spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="forward"))
            energy[part] = spectrum.square_().sum(1).sum(3)
    return energy


def _weight(energy: Tensor, gamma: float, channels: int) -> Tensor:
    """w(u, v) of eq. 3, its exponent clamped."""
    return (energy * (gamma / channels)).clamp(max=MAX_EXPONENT).exp()


def _multiplicity(student: Tensor) -> Tensor:
    """How many frequencies of the whole plane a column of the half plane stands for: 1 or 2; (W // 2 + 1,), float64."""
    width = student.shape[3]
    count = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64, device=student.device)
    count[0] = 1
    if width % 2 == 0:
        count[-1] = 1
    return count


def _whole_plane(half: Tensor, width: int) -> Tensor:
    """(B, H, W // 2 + 1) to (B, H, W) by the symmetry e(-u, -v) = e(u, v)."""
    height = half.shape[1]
    rows = -torch.arange(height, device=half.device) % height
    mirrored = half[:, rows, 1 : (width + 1) // 2].flip(2)
    return torch.cat([half, mirrored], dim=2)


def _shifts(height: int, width: int, sign: int, device: torch.device) -> Tensor:
    """(HW, HW): the position that lies circularly at p + sign * q, for positions p and q of the flattened map."""
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    rows, columns = (y[:, None] + sign * y) % height, (x[:, None] + sign * x) % width
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).reshape(height * width, height * width)


def _circulant(weight: Tensor, width: int) -> Tensor:
    """(B, HW, HW) symmetric matrices of the circular convolution whose transform is ``weight`` (B, H, W // 2 + 1)."""
    height = weight.shape[1]
    kernel = torch.fft.irfft2(weight, s=(height, width), norm="forward").flatten(1)
    return kernel[:, _shifts(height, width, -1, weight.device)] / (height * width)
