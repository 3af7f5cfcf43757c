"""What every loss needs: checks of its arguments, precision of the arithmetic, chunks of a batch. Not public."""

import functools
from collections.abc import Callable, Container
from numbers import Integral, Real

import torch
from torch import Tensor


def received(value: object) -> str:
    """What an error message says of an argument."""
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def check_maps(expected: str = "(B, C, H, W)", axes: Container[int] = (4,), **maps: Tensor) -> None:
    """Raise ``ValueError`` unless all are non-empty floating-point maps (B, C, H, W) of one shape and device."""
    for name, x in maps.items():
        if not isinstance(x, Tensor) or x.ndim not in axes or not x.numel() or not x.is_floating_point():
            raise ValueError(f"{name} is {received(x)}, expected one non-empty tensor {expected} of floating point")
    if len({(x.shape, x.device) for x in maps.values()}) > 1:
        found = " against ".join(f"{received(x)} on {x.device}" for x in maps.values())
        raise ValueError(f"{' and '.join(maps)} differ: {found}; choose stages that match, or project to one shape")


def check_number(name: str, value: float, positive: bool = False) -> float:
    if not isinstance(value, Real) or not 0 <= value < float("inf") or (positive and not value):
        text = "; YAML takes 1e3 for text: write 1.0e+3" * isinstance(value, str)
        raise ValueError(f"{name} is {value!r}, expected a finite number {'above' if positive else 'of at least'} 0{text}")
    return float(value)


def check_whole(name: str, value: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1")
    return int(value)


def check_choice(name: str, value: object, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def source_of(generator: torch.Generator | None) -> torch.device:
    """Where a generator draws; torch's own, if there is none, on the CPU."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator is {received(generator)}, expected a torch.Generator, such as torch.Generator().manual_seed(0)")
    return torch.device("cpu") if generator is None else generator.device


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor is, else float32: half precision is never summed in half precision."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def chunks(features: Tensor) -> list[slice]:
    """Slices of the batch axis, so that temporaries stay near a CPU's cache and far below the maps of a large batch."""
    most = (2**21 if features.is_cpu else 2**23) // features[0].numel()
    size = max(1, min(most, 48))  # 48 samples in float32 are three cache lines
    return [slice(start, start + size) for start in range(0, len(features), size)]


def untraced(function: Callable) -> Callable:
    """A function that ``torch.compile`` leaves to Python: a graph break, the same value and gradient."""

    @functools.wraps(function)
    def run(*arguments, **options):
        compiling = torch.compiler.is_compiling()  # only then: disable() loads the compiler, which takes seconds
        return (torch.compiler.disable(function) if compiling else function)(*arguments, **options)

    return run
