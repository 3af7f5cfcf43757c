"""What every loss of this package needs: checks of the maps, the precision of the arithmetic, chunks of a batch.

Nothing here is part of the public interface.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

# Maps are taken a few samples at a time, so that what is computed between reading a map and writing its gradient stays
# near the cache of a CPU, and no temporary is as large as the maps of a large batch. 48 samples in float32 are three
# cache lines: gathering rows of 8 samples takes as long as gathering rows of 32, rows of 96 gain nothing over 48.
CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**23}
CHUNK_SAMPLES = 48


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


def chunks(features: Tensor) -> list[slice]:
    """Slices of the batch axis, each of few samples."""
    elements = CHUNK_ELEMENTS.get(features.device.type, CHUNK_ELEMENTS["cuda"])
    size = max(1, min(elements // features[0].numel(), CHUNK_SAMPLES))
    return [slice(start, start + size) for start in range(0, len(features), size)]


def exact_matmul(tensor: Tensor) -> bool:
    """Whether a matrix product keeps full float32 precision: not when TF32 or bfloat16 products were asked for."""
    if tensor.dtype == torch.float64:
        return True
    backend = torch.backends.cuda.matmul if tensor.device.type == "cuda" else torch.backends.mkldnn.matmul
    return getattr(backend, "fp32_precision", "none") in ("none", "ieee")


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast of the tensor's device is off."""
    return torch.autocast(tensor.device.type, enabled=False)


def wants_gradient(student: Tensor) -> bool:
    """Whether a gradient may be asked for; never in ``torch.inference_mode`` or ``torch.no_grad``."""
    return torch.is_grad_enabled() and student.requires_grad


def untraced(function: Callable) -> Callable:
    """A function that ``torch.compile`` leaves to Python: a graph break, the same value and gradient.

    ``torch.compiler.disable`` does that, but loads the compiler (seconds): here only once something is compiled.
    """

    @functools.wraps(function)
    def run(*arguments, **options):
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*arguments, **options)
        return function(*arguments, **options)

    return run
