"""Frequency attention: the distance of two feature maps in the frequency domain, weighted where it is large.

Equations 1-3 of Le and Woo, "ADD" (AAAI 2022). With the discrete Fourier transform F of every channel, divided by HW,

    d(c, u, v) = |F student(c, u, v) - F teacher(c, u, v)|^2
    e(u, v)    = sum over c of d(c, u, v)                         energy
    w(u, v)    = exp(gamma / C * e(u, v))                         eq. 3, a constant for the gradient
    loss       = sum over c, u, v of w(u, v) d(c, u, v)           eq. 2; here the mean over the batch

:func:`plain_frequency_loss` is these lines; the rest computes the same faster, in chunks of the batch and with half of the
frequencies, as the difference is real. The gradient is 2 / (HW) F^-1(w F difference). Small maps need no transform: e is
that of the circular autocorrelation, a sum over the HW x HW Gram matrix of the difference, and the gradient is a product
with a circulant matrix.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check_choice, check_maps, check_number, chunks, untraced, working_dtype

MAX_DIFFERENCE = 2.0**50
MAX_EXPONENT = 40.0
GRAM_MAX_POSITIONS = 144  # near here 0.7 + 0.04 HW nanoseconds for an element meet the 7 to 11 of an FFT on a CPU


def plain_frequency_loss(student: Tensor, teacher: Tensor, gamma: float, detach_weight: bool = True) -> Tensor:
    """Equations 1-3 as they stand, for maps (B, C, H, W); differentiable any number of times."""
    spectrum = torch.fft.fft2(student - teacher, norm="forward")  # eq. 1; F is linear: once for both maps
    distance = torch.view_as_real(spectrum).square().sum(4)
    energy = distance.sum(1)
    weight = (energy * (gamma / student.shape[1])).clamp(max=MAX_EXPONENT).exp()  # eq. 3
    if detach_weight:
        weight = weight.detach()
    return (weight * energy).sum((1, 2)).mean()  # eq. 2


class FrequencyAttention(NamedTuple):
    """What the frequency loss sees, for plots: (B, H, W), zero frequency at index (0, 0)."""

    weight: Tensor
    energy: Tensor


@untraced
@torch.no_grad()
def frequency_attention(student: Tensor, teacher: Tensor, *, gamma: float = 1.0) -> FrequencyAttention:
    """Weights w(u, v) and energies e(u, v), float64, of maps (B, C, H, W); the loss sums their products."""
    check_maps(student=student, teacher=teacher)
    check_number("gamma", gamma)
    batch, channels, height, width = student.shape
    half = student.new_empty((batch, height, width // 2 + 1), dtype=torch.float64)
    gram = _use_gram(student, teacher)
    if gram:  # row t lists where the flattened Gram matrix pairs a position with the one circularly t further
        positions = torch.arange(height * width, device=student.device)
        shifted = _shifts(height, width, 1, student.device) + positions * len(positions)
    for part in chunks(student):
        difference = _difference(student[part], teacher[part])
        if gram:
            flat = difference.flatten(2)
            with torch.autocast(flat.device.type, enabled=False):
                products = torch.bmm(flat.transpose(1, 2), flat).flatten(1)
            correlation = products[:, shifted].sum(2, dtype=torch.float64).unflatten(1, (height, width))
            half[part] = torch.fft.rfft2(correlation).real.clamp_(min=0).div_((height * width) ** 2)
        else:
            spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="forward"))
            half[part] = spectrum.square_().sum(1).sum(3)
    rows = -torch.arange(height, device=student.device) % height  # the other half by e(-u, -v) = e(u, v)
    energy = torch.cat([half, half[:, rows, 1 : (width + 1) // 2].flip(2)], dim=2)
    weight = (energy * (gamma / channels)).clamp(max=MAX_EXPONENT).exp()  # eq. 3
    return FrequencyAttention(weight, energy)


@untraced
def frequency_attention_loss(
    student: Tensor, teacher: Tensor, *, gamma: float = 1.0, detach_weight: bool = True
) -> Tensor:
    """Frequency attention loss of maps (B, C, H, W), eq. 2 and 3, a scalar in float32 or better, under autocast too.

    ``gamma`` is 1 in the paper, 1e-3 for EfficientNet-B0; 0 gives the squared distance of the maps divided by HW. With
    ``detach_weight=False`` the gradient passes the weight, too, and is larger by the factor 1 + gamma / C * e. Finite for
    every finite input: differences stop at 2^50, the exponent at 40, and what is outside its range saturates.
    """
    return _FrequencyLoss.apply(student, teacher, gamma, detach_weight)


class FrequencyAttentionLoss(nn.Module):
    """:func:`frequency_attention_loss` with its settings stored."""

    def __init__(self, gamma: float = 1.0, detach_weight: bool = True):
        super().__init__()
        check_choice("detach_weight", detach_weight, (True, False))
        self.gamma, self.detach_weight = check_number("gamma", gamma), bool(detach_weight)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return frequency_attention_loss(student, teacher, gamma=self.gamma, detach_weight=self.detach_weight)


class _FrequencyLoss(torch.autograd.Function):
    """The loss with its gradient in closed form, and in the plain form where that gradient is to be differentiated."""

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, gamma: float, detach_weight: bool) -> Tensor:
        weight, energy = frequency_attention(student, teacher, gamma=gamma)
        loss = (weight * energy).sum((1, 2)).mean()
        if not detach_weight:
            exponent = energy * (gamma / student.shape[1])
            weight = weight * (1 + exponent.masked_fill_(exponent > MAX_EXPONENT, 0))
        ctx.settings = gamma, detach_weight
        teacher = teacher.clone() if teacher.is_inference() else teacher  # could not be saved for a gradient
        ctx.save_for_backward(student, teacher, weight)
        dtype = working_dtype(student, teacher)
        return loss.clamp(max=torch.finfo(dtype).max).to(dtype)

    @staticmethod
    def backward(ctx, upstream: Tensor):
        student, teacher, weight = ctx.saved_tensors
        dtype, limit = working_dtype(student, teacher), torch.finfo(student.dtype).max
        if torch.is_grad_enabled():
            loss = plain_frequency_loss(student.to(dtype), teacher.detach().to(dtype), *ctx.settings)
            return *torch.autograd.grad(loss, student, upstream, create_graph=True), None, None, None
        batch, _, height, width = student.shape
        # The scale of a half-precision loss is multiplied after saturating, so that GradScaler still sees it overflow.
        half = limit < torch.finfo(dtype).max
        scale = 2 / (height * width * batch)
        weight = weight[..., : width // 2 + 1] * (scale if half else scale * upstream.double())
        gram = _use_gram(student, teacher)
        if gram:
            kernel = torch.fft.irfft2(weight, s=(height, width), norm="forward").flatten(1)
            weight = (kernel[:, _shifts(height, width, -1, weight.device)] / (height * width)).to(dtype)  # circulant
        else:  # once for the real and once for the imaginary part
            weight = weight.to(dtype)[:, None, :, :, None].repeat(1, 1, 1, 1, 2)
        gradient = torch.empty_like(student)
        for part in chunks(student):
            result = _difference(student[part], teacher[part])
            if gram:
                with torch.autocast(result.device.type, enabled=False):
                    result = torch.bmm(result.flatten(2), weight[part]).view_as(result)
            else:
                result = torch.fft.rfft2(result, norm="forward")
                torch.view_as_real(result).mul_(weight[part])
                result = torch.fft.irfft2(result, s=(height, width), norm="forward")
            if half:
                result.clamp_(-limit, limit).mul_(upstream)
            gradient[part] = result.to(gradient.dtype)
            del result  # before the next chunk takes as much again
        return gradient, None, None, None


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Contiguous student - teacher, in working precision, with squares that float32 can sum."""
    dtype = working_dtype(student, teacher)
    return torch.sub(student.to(dtype), teacher.to(dtype)).clamp_(-MAX_DIFFERENCE, MAX_DIFFERENCE).contiguous()


def _use_gram(student: Tensor, teacher: Tensor) -> bool:
    """Whether the Gram matrix is cheaper than the FFT, and exact: not in TF32 or bfloat16, if these were asked for."""
    channels, positions = student.shape[1], student.shape[2] * student.shape[3]
    backend = torch.backends.cuda.matmul if student.device.type == "cuda" else torch.backends.mkldnn.matmul
    exact = working_dtype(student, teacher) == torch.float64 or backend.fp32_precision in ("none", "ieee")
    return exact and positions <= GRAM_MAX_POSITIONS and positions <= 2 * channels


def _shifts(height: int, width: int, sign: int, device: torch.device) -> Tensor:
    """(HW, HW): the position that lies circularly at p + sign * q, for positions p and q of the flattened map."""
    position = torch.arange(height * width, device=device)
    y, x = position // width, position % width
    return (y[:, None] + sign * y) % height * width + (x[:, None] + sign * x) % width
