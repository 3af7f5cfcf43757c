"""What a training runs on, where its crops are held, and Lightning's Trainer round it, imported when a training starts."""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from addlib.faceforensics.pairs import FacePairs
from addlib.parallel import allotted_processes

from .prediction import choose_precision


@dataclass(frozen=True)
class Hardware:
    """kind: "cuda" or "cpu". devices: how many on a node, or a list of numbers. precision: Lightning's name."""

    kind: str
    devices: int | list
    nodes: int
    precision: str

    @classmethod
    def choose(cls, accelerator: str = "auto", devices=1, nodes: int = 1, precision: str = "auto") -> Hardware:
        """Raises ValueError for an accelerator that is unknown or not there, or cannot be used from here."""
        if accelerator not in ("auto", "cpu", "gpu"):
            raise ValueError(f"unknown accelerator {accelerator!r}; there are 'auto', 'cpu' and 'gpu'")
        if accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("accelerator is 'gpu', but torch finds no CUDA device; use 'auto' or 'cpu'")
        kind = "cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu"
        if devices in ("auto", -1, "-1"):
            devices = torch.cuda.device_count() if kind == "cuda" else 1
        hardware = cls(kind, devices if isinstance(devices, list) else int(devices), nodes, precision)
        if precision == "auto" and kind == "cuda" and hardware.processes > 1 and from_notebook():
            precision = "bf16-mixed"  # asking the GPU would use it, and then Lightning could not fork
        return replace(hardware, precision=choose_precision(precision, kind))

    @property
    def processes(self) -> int:
        """That train in parallel, on all nodes together."""
        return (self.devices if isinstance(self.devices, int) else len(self.devices)) * self.nodes

    def is_first(self) -> bool:
        """Whether this process is the first of a parallel training, by the number that Lightning or the launcher gave it."""
        if self.processes == 1:  # whatever a launcher of others left in the environment
            return True
        from lightning.pytorch.utilities import rank_zero_only

        return rank_zero_only.rank == 0


def from_notebook() -> bool:
    """Whether there is no script that further processes could run: a notebook, a session, code from standard input."""
    return hasattr(sys, "ps1") or not hasattr(sys.modules["__main__"], "__file__")


def free_memory() -> int:
    """Bytes that this job may still take on the host, within what it was allotted."""
    limits = [sys.maxsize]
    with contextlib.suppress(OSError, IndexError):
        limits.append(1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]))
    with contextlib.suppress(OSError):
        own = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(limits)


def hold(pairs: FacePairs, device: str) -> None:
    """Hold crops on the device if they fit, else in the memory of the host, else leave them on disk."""
    # torch raises RuntimeError where Python would raise MemoryError.
    with contextlib.suppress(MemoryError, RuntimeError):
        if device != "cpu":
            pairs.hold(device)
            return
    with contextlib.suppress(MemoryError, RuntimeError):
        if pairs.nbytes < 0.8 * free_memory():
            pairs.hold("cpu")


def run_trainer(
    task, train: FacePairs, val: FacePairs, work: Path, hardware: Hardware, compile: bool, progress: bool | None
) -> tuple[dict[str, Tensor], int, int]:
    """Train a ``TrainingTask`` in the folder ``work``, from its last whole epoch if an earlier attempt left one.

    Returns:
        The weights of the best validation accuracy, the step they are from, and the number of steps made.

    Raises:
        KeyboardInterrupt: somebody interrupts. Lightning alone would return as if all were done.
    """
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from .task import EpochLoader

    recipe, folder = task.recipe, work / "checkpoints"
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    if last.is_file() and not zipfile.is_zipfile(last):
        warnings.warn(f"{last} is damaged; this training starts again from the beginning", stacklevel=2)
        shutil.rmtree(folder)
    attempt = f"attempt_{len(list(work.glob('csv/attempt_*'))):03}"
    kept = {"dirpath": folder, "enable_version_counter": False}
    callbacks = [
        ModelCheckpoint(filename="best", monitor="val_accuracy", mode="max", save_weights_only=True, **kept),
        # What to resume from. Whole epochs, since everything random is drawn anew at the start of an epoch.
        ModelCheckpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=True, **kept),
    ]
    if recipe.patience:
        callbacks.append(EarlyStopping("val_accuracy", mode="max", patience=recipe.patience))
    if progress is None:
        progress = sys.stderr.isatty() or (hasattr(builtins, "__IPYTHON__") and not os.environ.get("TQDM_DISABLE"))
    with undisturbed(hardware):
        trainer = lightning.Trainer(
            **trainer_options(hardware, recipe.classifier_epochs > 0),
            max_epochs=recipe.epochs,
            logger=[CSVLogger(work, "csv", attempt), TensorBoardLogger(work, "tensorboard", attempt)],
            callbacks=callbacks,
            enable_progress_bar=progress,
            val_check_interval=1 / recipe.validations,
        )
        where = {"rank": trainer.global_rank, "world": trainer.world_size}
        share = max(recipe.batch_size // trainer.world_size, 1)
        options = {"seed": task.seed, "flip": recipe.flip, "raw": task.distiller is not None}
        options |= {"workers": min(allotted_processes() - 1, 4) if train.device is None else 0}
        batches = EpochLoader(train, share, **options, **where)
        held_out = EpochLoader(val, max(share, 64), training=False, raw=False, **where)
        task.detector.to(memory_format=torch.channels_last)
        if compile:
            task.detector.compile()
        trainer.fit(task, batches, held_out, ckpt_path=last if last.is_file() else None)
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.strategy.barrier()
        # From the files: processes that Lightning forked in a notebook leave nothing else.
        found, end = (torch.load(path, map_location="cpu", weights_only=True) for path in (best, last))
    start = "detector."
    weights = {name.removeprefix(start): value for name, value in found["state_dict"].items() if name.startswith(start)}
    return weights, found["global_step"], end["global_step"]


def trainer_options(hardware: Hardware, freezes: bool = False) -> dict:
    """Of Lightning's Trainer, for any training on this hardware; freezes: some parameters get no gradient at times."""
    from lightning.fabric.plugins.environments import LightningEnvironment

    from .task import LOG_EVERY

    several = hardware.processes > 1
    # A notebook has no script for a second process to run: there they are forked.
    strategy = ("ddp_fork" if from_notebook() else "ddp") + "_find_unused_parameters_true" * freezes
    return {
        "accelerator": "gpu" if hardware.kind == "cuda" else "cpu",
        "devices": hardware.devices,
        "num_nodes": hardware.nodes,
        "precision": hardware.precision,
        "strategy": strategy if several else "auto",
        # Some backward passes of torchvision's layers have no deterministic form on CUDA.
        "deterministic": True if hardware.kind == "cpu" else "warn",
        "plugins": None if several else [LightningEnvironment()],
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY,
        "use_distributed_sampler": False,
    }


@contextlib.contextmanager
def undisturbed(hardware: Hardware) -> Iterator[None]:
    """Puts back what a Trainer changes for the whole process: torch's choice of algorithms, and random numbers.

    Its notices and advice, which would end up on a page, are silenced; warnings of others pass. For one process, what a
    launcher left in the environment (RANK, SLURM_…) does not count.
    """
    from lightning.pytorch.utilities import rank_zero_only

    alone = hardware.processes == 1
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # Otherwise every new tensor is filled before it is written: memory traffic for code that reads what nobody wrote.
    changes = [(torch.utils.deterministic, "fill_uninitialized_memory", False)]
    changes += [(rank_zero_only, "rank", 0)] if alone else []
    # Several GPUs: whoever asks one for its random numbers uses it, and then Lightning cannot fork.
    devices = [0] if alone and hardware.kind == "cuda" else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices), contextlib.ExitStack() as stack:
        warnings.filterwarnings("ignore", module="lightning")
        for logger in (logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for place, name, value in changes:
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, value)
        stack.callback(torch.use_deterministic_algorithms, enabled, warn_only=warn)
        yield
