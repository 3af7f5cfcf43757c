"""Which number format a device computes in."""

from __future__ import annotations

import contextlib

import torch


def choose(precision: str, device) -> str:
    """Lightning's name of a precision; "auto" is bfloat16 autocast where the hardware has it, float16 on older GPUs.

    On a CPU "auto" asks for AVX-512: there bfloat16 is quicker even where it is emulated, by the measurement of
    tests/benchmarks/training.py; elsewhere float32.
    """
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "32-true"


def autocast(device, precision: str = "auto"):
    """The context in which Lightning computes under a precision."""
    name = choose(precision, device)
    dtypes = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if name not in dtypes:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtypes[name])
