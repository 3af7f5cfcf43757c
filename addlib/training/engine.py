"""Lightning's Trainer, set up for one training: hardware, logs, selection of the best weights, resuming."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from addlib.detectors import normalisation

from .loading import EpochLoader
from .precision import choose

LOG_EVERY = 10  # steps
ACCELERATORS = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class Hardware:
    """What a training runs on. kind: "cuda" or "cpu". devices, nodes: as Lightning's Trainer. precision: Lightning's name."""

    kind: str
    devices: int | str | list
    nodes: int
    precision: str

    @classmethod
    def of(cls, accelerator, devices, nodes, precision):
        """Raises ValueError for an accelerator that is unknown or not there."""
        if accelerator not in ACCELERATORS:
            raise ValueError(f"unknown accelerator {accelerator!r}; there are {list(ACCELERATORS)}")
        found = torch.cuda.is_available()
        if accelerator == "gpu" and not found:
            raise ValueError("accelerator is 'gpu', but torch finds no CUDA device; use 'auto' or 'cpu'")
        kind = "cuda" if found and accelerator != "cpu" else "cpu"
        return cls(kind, devices, nodes, choose(precision, kind))

    @property
    def alone(self) -> bool:
        return self.devices == 1 and self.nodes == 1

    @property
    def home(self) -> str:
        """Where the crops are held: on the one GPU, else in the memory of the host."""
        return "cuda" if self.kind == "cuda" and self.alone else "cpu"

    def decides(self) -> dict:
        """What of it changes the numbers of a training."""
        threads = torch.get_num_threads() if self.kind == "cpu" else None
        return {
            "kind": self.kind,
            "devices": str(self.devices),
            "nodes": self.nodes,
            "precision": self.precision,
            "threads": threads,
        }

    def trainer_options(self) -> dict:
        return {
            "accelerator": "gpu" if self.kind == "cuda" else "cpu",
            "devices": self.devices,
            "num_nodes": self.nodes,
            "precision": self.precision,
            # Layers that are frozen in the first epochs leave parameters without a gradient.
            "strategy": "auto" if self.alone else "ddp_find_unused_parameters_true",
            # Some backward passes of torchvision's layers have no deterministic form on CUDA.
            "deterministic": True if self.kind == "cpu" else "warn",
        }


@dataclass(frozen=True)
class Best:
    """Weights of the best validation accuracy, the step they are from, and the number of steps made."""

    weights: dict[str, Tensor]
    step: int
    steps: int


def run(task, train, val, work: Path, hardware: Hardware, compile=False, progress=None) -> Best:
    """Train a task in the folder ``work``, from its last whole epoch if an earlier attempt left one.

    train, val: ResidentPairs or FacePairs. compile, progress: as ``fit_student``.
    Raises KeyboardInterrupt if somebody interrupts: Lightning alone would return as if all were done.
    """
    recipe = task.recipe
    last = work / "checkpoints" / "last.ckpt"
    attempt = f"attempt_{len(list(work.glob('csv/attempt_*')))}"
    selection = ModelCheckpoint(
        last.parent, "best", monitor="val_accuracy", mode="max", save_weights_only=True, enable_version_counter=False
    )
    # What to resume from. Whole epochs, since everything random is drawn anew at the start of an epoch.
    state = ModelCheckpoint(
        last.parent, "last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    stopping = [EarlyStopping("val_accuracy", mode="max", patience=recipe.patience)] if recipe.patience else []
    with quiet(), deterministic(), torch.random.fork_rng():
        trainer = lightning.Trainer(
            **hardware.trainer_options(),
            max_epochs=recipe.epochs,
            logger=[CSVLogger(work, "csv", attempt), TensorBoardLogger(work, "tensorboard", attempt)],
            callbacks=[selection, state, *stopping],
            enable_progress_bar=_shows(progress),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=LOG_EVERY,
            use_distributed_sampler=False,
            val_check_interval=1 / recipe.validations,
        )
        draw = {
            "normalise": normalisation(task.detector.name),
            "rank": trainer.global_rank,
            "world": trainer.world_size,
        }
        share = max(recipe.batch_size // trainer.world_size, 1)
        batches = EpochLoader(train, share, seed=task.seed, flip=recipe.flip, **draw)
        held_out = EpochLoader(val, max(share, 64), training=False, **draw)
        task.detector.to(memory_format=torch.channels_last)
        if compile:
            task.detector.compile()
        trainer.fit(task, batches, held_out, ckpt_path=last if last.is_file() else None)
        if trainer.interrupted:
            raise KeyboardInterrupt
        kept = torch.load(selection.best_model_path, map_location="cpu", weights_only=True)
        trainer.strategy.barrier()
    start = "detector."
    weights = {name.removeprefix(start): value for name, value in kept["state_dict"].items() if name.startswith(start)}
    return Best(weights, kept["global_step"], trainer.global_step)


def is_first() -> bool:
    """Whether this process is the first of a parallel training, by the number that Lightning or the launcher gave it."""
    return rank_zero_only.rank == 0


def _shows(progress):
    if progress is not None:
        return progress
    # Others import parts of Jupyter too; only in a notebook is there a shell.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or (shell is not None and not os.environ.get("TQDM_DISABLE"))


@contextlib.contextmanager
def quiet():
    """Without Lightning's notices of the hardware and its advice, which would end up on a page; warnings of others pass."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def deterministic():
    """Puts torch's choice of algorithms back as it was: the Trainer changes it for the whole process."""
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    # Otherwise every new tensor is filled before it is written: memory traffic for code that reads what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn)
        torch.utils.deterministic.fill_uninitialized_memory = fills
