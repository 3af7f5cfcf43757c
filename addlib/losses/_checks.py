"""What every loss needs: checks of its arguments, precision of the arithmetic, chunks of a batch. Not public."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

# Samples are taken a few at a time, so that temporaries stay near the cache of a CPU and far below the maps of a large
# batch. 48 samples in float32 are three cache lines: fetching 8 takes as long as fetching 32, 96 gain nothing over 48.
CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**23}
CHUNK_SAMPLES = 48


def check_floating(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} holds {tensor.dtype}, expected floating-point numbers; convert it with .float()")
    if tensor.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected no empty axis; skip empty batches")


def check_map(name: str, features: Tensor) -> None:
    """Raise ``ValueError`` unless ``features`` is a non-empty floating-point map (B, C, H, W)."""
    if not isinstance(features, Tensor):
        raise ValueError(f"{name} is a {type(features).__name__}, expected a tensor (B, C, H, W); pass one stage")
    if features.ndim != 4:
        raise ValueError(f"{name} has shape {tuple(features.shape)}, expected (B, C, H, W): a stage before pooling")
    check_floating(name, features)


def check_alike(student: Tensor, teacher: Tensor, remedy: str, axes: tuple[int, ...] | None = None) -> None:
    """Raise ``ValueError`` unless both have the same device and the same shape, in ``axes`` if given."""
    shapes = tuple(student.shape), tuple(teacher.shape)
    if any(shapes[0][i] != shapes[1][i] for i in axes) if axes else shapes[0] != shapes[1]:
        raise ValueError(f"student and teacher differ: {shapes[0]} against {shapes[1]}; {remedy}")
    if student.device != teacher.device:
        raise ValueError(f"student is on {student.device}, teacher on {teacher.device}; move one with .to(device)")


def check_pair(student: Tensor, teacher: Tensor) -> None:
    """Raise ``ValueError`` unless student and teacher are floating-point maps (B, C, H, W) of one shape and device."""
    check_map("student", student)
    check_map("teacher", teacher)
    check_alike(student, teacher, "choose the stages that match, or project the student's map to the teacher's shape")


def check_number(name: str, value: float) -> float:
    """Return ``value`` as a float; raise ``ValueError`` unless it is finite and at least 0."""
    if not 0 <= float(value) < float("inf"):
        raise ValueError(f"{name} is {value!r}, expected a finite number of at least 0")
    return float(value)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor is, else float32: half precision is never summed in half precision."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def chunks(features: Tensor) -> list[slice]:
    """Slices of the batch axis, each of few samples."""
    elements = CHUNK_ELEMENTS.get(features.device.type, CHUNK_ELEMENTS["cuda"])
    size = max(1, min(elements // features[0].numel(), CHUNK_SAMPLES))
    return [slice(start, start + size) for start in range(0, len(features), size)]


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast of the tensor's device is off."""
    return torch.autocast(tensor.device.type, enabled=False)


def wants_gradient(tensor: Tensor) -> bool:
    """Whether a gradient may be asked for; never in ``torch.inference_mode`` or ``torch.no_grad``."""
    return torch.is_grad_enabled() and tensor.requires_grad


def untraced(function: Callable) -> Callable:
    """A function that ``torch.compile`` leaves to Python: a graph break, the same value and gradient."""

    @functools.wraps(function)
    def run(*arguments, **options):
        if torch.compiler.is_compiling():  # only then: disable() loads the compiler, which takes seconds
            return torch.compiler.disable(function)(*arguments, **options)
        return function(*arguments, **options)

    return run
