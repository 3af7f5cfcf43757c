"""What a training runs on: devices, number format, and where the crops are held."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace

import torch

from addlib.faceforensics.pairs import FacePairs
from addlib.parallel import free_memory

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # what autocast computes in, by Lightning's names
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # in short, and in full


def choose_precision(precision: str, device) -> str:
    """Lightning's name of a precision; "auto" is bfloat16 autocast where it is quick: on newer GPUs, and CPUs with AVX-512."""
    if precision != "auto":
        name = PRECISIONS.get(str(precision), precision)
        if name not in PRECISIONS.values():
            raise ValueError(f"precision is {precision!r}; expected 'auto' or one of {list(PRECISIONS.values())}")
        return name
    if torch.device(device).type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "32-true"


def autocast(device, precision: str = "auto") -> contextlib.AbstractContextManager:
    """The context in which Lightning computes under a precision, by its name or "auto", see :func:`choose_precision`."""
    dtype = HALF.get(choose_precision(precision, device))
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None)  # also within another


@dataclass(frozen=True)
class Hardware:
    """kind: "cuda" or "cpu". processes: that train in parallel, one a device. precision: Lightning's name."""

    kind: str
    processes: int
    precision: str

    @classmethod
    def choose(cls, accelerator: str = "auto", devices: int | str = 1, precision: str = "auto") -> Hardware:
        """Raises ValueError for an accelerator that is unknown or not there, or cannot be used from here."""
        if accelerator not in ("auto", "cpu", "gpu"):
            raise ValueError(f"unknown accelerator {accelerator!r}; there are 'auto', 'cpu' and 'gpu'")
        found = torch.cuda.is_available()
        if accelerator == "gpu" and not found:
            raise ValueError("accelerator is 'gpu', but torch finds no CUDA device; use 'auto' or 'cpu'")
        kind = "cuda" if found and accelerator != "cpu" else "cpu"
        if devices in ("auto", -1, "-1"):
            devices = torch.cuda.device_count() if kind == "cuda" else 1
        if not str(devices).isdecimal() or int(devices) < 1:
            remedy = 'a number of devices or "auto"; CUDA_VISIBLE_DEVICES says which they are'
            raise ValueError(f"devices is {devices!r}, expected {remedy}")
        hardware = cls(kind, int(devices), precision)
        if precision == "auto" and kind == "cuda" and hardware.processes > 1 and from_notebook():
            precision = "bf16-mixed"  # asking the GPU would use it, and then Lightning could not fork
        return replace(hardware, precision=choose_precision(precision, kind))

    def is_first(self) -> bool:
        """Whether this process is the first of a parallel training, by the number that Lightning or the launcher gave it."""
        if self.processes == 1:  # whatever a launcher of others left in the environment
            return True
        from lightning.pytorch.utilities import rank_zero_only

        return rank_zero_only.rank == 0


def from_notebook() -> bool:
    """Whether there is no script that further processes could run: a notebook, a session, code from standard input."""
    return hasattr(sys, "ps1") or not hasattr(sys.modules["__main__"], "__file__")


def hold(pairs: FacePairs, device: str) -> None:
    """Hold crops on the device if they fit, else in the memory of the host, else leave them on disk."""
    pairs.hold(None)  # wherever they were before
    for place, fits in ((device, device != "cpu"), ("cpu", pairs.nbytes < 0.8 * free_memory())):
        if fits:
            with contextlib.suppress(MemoryError, RuntimeError):  # torch raises the second in the place of the first
                pairs.hold(place)
                return
