"""What every loss of this package needs: checks of the two maps, the precision of the arithmetic, and chunks of a batch.

Nothing here is part of the public interface.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Samples are taken a few at a time, so that what is computed between reading a map and writing its gradient stays near
# the cache of a CPU, and so that no temporary is as large as a map: at most a quarter of the batch. Measured on maps of
# ResNet-50: half or twice as much is slower for multi-view attention, and makes little difference to the frequency loss.
CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**23}
CHUNKS_OF_A_BATCH = 4


def check_map(name: str, features: Tensor) -> None:
    """Raise ``ValueError`` unless ``features`` is a non-empty floating-point map (B, C, H, W)."""
    if not isinstance(features, Tensor):
        raise ValueError(
            f"{name} is a {type(features).__name__}, expected a tensor (B, C, H, W); pass one stage at a time"
        )
    if features.ndim != 4:
        raise ValueError(
            f"{name} has shape {tuple(features.shape)}, expected (B, C, H, W); "
            "give it a batch axis, or take the stage before pooling and flattening"
        )
    check_floating(name, features)


def check_floating(name: str, features: Tensor) -> None:
    """Raise ``ValueError`` unless ``features`` holds real floating-point numbers, at least one."""
    if not features.is_floating_point():
        raise ValueError(f"{name} holds {features.dtype}, expected floating-point numbers; convert it with .float()")
    if features.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(features.shape)}, expected no empty axis; skip empty batches")


def check_pair(student: Tensor, teacher: Tensor) -> None:
    """Raise ``ValueError`` unless student and teacher are floating-point maps (B, C, H, W) of one shape and device."""
    check_map("student", student)
    check_map("teacher", teacher)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher maps differ: {tuple(student.shape)} against {tuple(teacher.shape)}; "
            "choose the stages that match, or project the student's map to the teacher's shape"
        )
    check_device(student, teacher)


def check_device(student: Tensor, teacher: Tensor) -> None:
    """Raise ``ValueError`` unless both tensors live on one device."""
    if student.device != teacher.device:
        raise ValueError(f"student is on {student.device}, teacher on {teacher.device}; move one with .to(device)")


def check_number(name: str, value: float, *, minimum: float = 0.0) -> float:
    """Return ``value`` as a float; raise ``ValueError`` unless it is finite and at least ``minimum``."""
    number = float(value)
    if not minimum <= number < float("inf"):
        raise ValueError(f"{name} is {value!r}, expected a finite number of at least {minimum:g}")
    return number


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor is, else float32: half precision is never summed in half precision."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def is_half(tensor: Tensor) -> bool:
    """Whether numbers of the working precision may lie outside the tensor's range."""
    return torch.finfo(tensor.dtype).max < torch.finfo(torch.float32).max


def to_range(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Clamp to what ``dtype`` can hold (in place) and return; NaN stays NaN."""
    limit = torch.finfo(dtype).max
    return tensor.clamp_(-limit, limit)


def chunks(batch: int, elements: int, device: torch.device, *, largest: int | None = None) -> list[slice]:
    """Slices of the batch axis, each of few samples of ``elements`` elements."""
    size = CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cuda"]) // elements
    size = max(1, min(size, -(-batch // CHUNKS_OF_A_BATCH), size if largest is None else largest))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def exact_matmul(tensor: Tensor) -> bool:
    """Whether a matrix product keeps full float32 precision: not when TF32 or bfloat16 products were asked for."""
    if tensor.dtype == torch.float64:
        return True
    backend = torch.backends.cuda.matmul if tensor.device.type == "cuda" else torch.backends.mkldnn.matmul
    return getattr(backend, "fp32_precision", "none") in ("none", "ieee")


class ScalarLoss(torch.autograd.Function):
    """A scalar loss of the student's map whose gradient is written by hand.

    ``form`` has three methods: ``value(student, teacher)`` returns the loss and may keep what the gradient needs;
    ``gradient(student, teacher, upstream)`` returns its derivative times the scalar ``upstream``;
    ``plain(student, teacher)`` is the same loss in differentiable operations, used only when a derivative of the
    gradient is asked for (``create_graph=True``). The teacher never receives a gradient.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, form) -> Tensor:
        ctx.form = form
        ctx.save_for_backward(student, teacher)
        with torch.autocast(student.device.type, enabled=False):
            return form.value(student, teacher)

    @staticmethod
    def backward(ctx, upstream: Tensor):
        student, teacher = ctx.saved_tensors
        with torch.autocast(student.device.type, enabled=False):
            if torch.is_grad_enabled():
                loss = ctx.form.plain(student, teacher)
                (gradient,) = torch.autograd.grad(loss, student, upstream, create_graph=True)
            else:
                gradient = ctx.form.gradient(student, teacher, upstream)
        return gradient, None, None
