"""What a training runs on: devices and number format, and where the crops are held."""

from __future__ import annotations

import contextlib
import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from addlib.faceforensics.pairs import FacePairs

from .prediction import autocast, choose_precision

ACCELERATORS = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class Hardware:
    """kind: "cuda" or "cpu". devices: how many on a node, or a list of numbers. precision: Lightning's name."""

    kind: str
    devices: int | list
    nodes: int
    precision: str

    @classmethod
    def choose(cls, accelerator: str, devices, nodes: int, precision: str) -> Hardware:
        """Raises ValueError for an accelerator that is unknown or not there, or cannot be used from here."""
        if accelerator not in ACCELERATORS:
            raise ValueError(f"unknown accelerator {accelerator!r}; there are {list(ACCELERATORS)}")
        found = torch.cuda.is_available()
        if accelerator == "gpu" and not found:
            raise ValueError("accelerator is 'gpu', but torch finds no CUDA device; use 'auto' or 'cpu'")
        kind = "cuda" if found and accelerator != "cpu" else "cpu"
        if devices in ("auto", -1, "-1"):
            devices = torch.cuda.device_count() if kind == "cuda" else 1
        devices = devices if isinstance(devices, list) else int(devices)
        several = (devices if isinstance(devices, int) else len(devices)) * nodes > 1
        if several and kind == "cuda" and from_notebook():
            if torch.cuda.is_initialized():
                raise ValueError(
                    "several GPUs from a notebook need a kernel that has not used a GPU yet; restart it and train first, or "
                    "run a script"
                )
            # Asking the GPU would use it.
            precision = "bf16-mixed" if precision == "auto" else precision
        return cls(kind, devices, nodes, choose_precision(precision, kind))

    @property
    def processes(self) -> int:
        """That train in parallel, on all nodes together."""
        return (self.devices if isinstance(self.devices, int) else len(self.devices)) * self.nodes

    @property
    def home(self) -> str:
        """Where the crops are held if they fit: on the one GPU, else in the memory of the host."""
        return "cuda" if self.kind == "cuda" and self.processes == 1 else "cpu"

    def is_first(self) -> bool:
        """Whether this process is the first of a parallel training, by the number that Lightning or the launcher gave it."""
        if self.processes == 1:  # whatever a launcher of others left in the environment
            return True
        from lightning.pytorch.utilities import rank_zero_only

        return rank_zero_only.rank == 0

    def decides(self) -> dict:
        """What of it changes the numbers of a training."""
        return {
            "kind": self.kind,
            "processes": self.processes,
            "precision": self.precision,
            "threads": torch.get_num_threads() if self.kind == "cpu" else None,
        }


def from_notebook() -> bool:
    """Whether there is no script that further processes could run: a notebook, a session, code from standard input."""
    return hasattr(sys, "ps1") or not hasattr(sys.modules["__main__"], "__file__")


def free_memory(device: str) -> int:
    """Bytes that may still be taken, on a GPU or on the host within what this job was allotted."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [sys.maxsize]
    with contextlib.suppress(OSError, IndexError):
        limits.append(1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]))
    with contextlib.suppress(OSError):
        own = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(limits)


def load_pairs(crops, manipulation, quality, split, *, device="cpu", sides=("raw", "compressed")) -> FacePairs:
    """The pairs of a split in the memory of the device if they fit, else of the host, else read from disk when needed."""
    where = (crops, manipulation, quality, split)
    pairs = FacePairs(*where, sides=sides)
    for place in dict.fromkeys((device, "cpu")):
        if pairs.nbytes < 0.8 * free_memory(place):
            # torch raises RuntimeError where Python would raise MemoryError.
            with contextlib.suppress(MemoryError, RuntimeError):
                return FacePairs(*where, device=place, sides=sides)
    return pairs


def step_fits(task, pairs: FacePairs, precision: str) -> bool:
    """Whether a whole training step fits on the device beside the crops that are held there: tried, on a copy."""
    trial, optimizer = copy.deepcopy(task).to(pairs.device), None
    try:
        trial.setup("fit")
        batch = next(pairs.batches(task.recipe.batch_size, raw=task.distiller is not None))
        with autocast(pairs.device, precision):
            loss = trial.training_step(batch, 0)
        loss.backward()
        optimizer = torch.optim.Adam(trial.parameters())
        optimizer.step()
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        del trial, optimizer
        torch.cuda.empty_cache()
