"""What every loss needs: checks of its arguments, precision of the arithmetic, chunks of a batch. Not public."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container

import torch
from torch import Tensor

# Samples are taken a few at a time, so that temporaries stay near the cache of a CPU and far below the maps of a large
# batch. 48 samples in float32 are three cache lines: fetching 8 takes as long as fetching 32, 96 gain nothing over 48.
CHUNK_SAMPLES = 48


def received(value: object) -> str:
    """What an error message says of an argument: the shape of a tensor, the type of anything else."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def check_map(name: str, features: Tensor, expected: str = "(B, C, H, W)", axes: Container[int] = (4,)) -> None:
    """Raise ``ValueError`` unless ``features`` is a floating-point map (B, C, H, W), or what else is expected."""
    if not isinstance(features, Tensor) or features.ndim not in axes or not features.numel():
        raise ValueError(f"{name} is {received(features)}, expected one tensor {expected} without empty axes")
    if not features.is_floating_point():
        raise ValueError(f"{name} holds {features.dtype}, expected floating-point numbers; convert it with .float()")


def check_alike(first: Tensor, second: Tensor, remedy: str) -> None:
    if first.shape != second.shape:
        raise ValueError(f"inputs differ: {received(first)} against {received(second)}; {remedy}")
    if first.device != second.device:
        raise ValueError(f"inputs are on {first.device} and {second.device}; move one with .to(device)")


def check_pair(student: Tensor, teacher: Tensor) -> None:
    """Raise ``ValueError`` unless student and teacher are floating-point maps (B, C, H, W) of one shape and device."""
    check_map("student", student)
    check_map("teacher", teacher)
    check_alike(student, teacher, "choose stages that match, or project the student's map to the teacher's shape")


def check_number(name: str, value: float) -> float:
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
    elements = 2**21 if features.is_cpu else 2**23
    size = max(1, min(elements // features[0].numel(), CHUNK_SAMPLES))
    return [slice(start, start + size) for start in range(0, len(features), size)]


def untraced(function: Callable) -> Callable:
    """A function that ``torch.compile`` leaves to Python: a graph break, the same value and gradient."""

    @functools.wraps(function)
    def run(*arguments, **options):
        if torch.compiler.is_compiling():  # only then: disable() loads the compiler, which takes seconds
            return torch.compiler.disable(function)(*arguments, **options)
        return function(*arguments, **options)

    return run
