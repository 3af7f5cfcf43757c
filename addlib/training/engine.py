"""Lightning's Trainer, set up for one training: logs, selection of the best weights, resuming, several devices."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from addlib.faceforensics.pairs import FacePairs
from addlib.parallel import allotted_processes

from .hardware import Hardware, from_notebook
from .task import LOG_EVERY, EpochLoader, TrainingTask


def run_trainer(
    task: TrainingTask, train: FacePairs, val: FacePairs, work: Path, hardware: Hardware, compile: bool = False,
    progress: bool | None = None,
) -> tuple[dict[str, Tensor], int, int]:  # fmt: skip
    """Train a task in the folder ``work``, from its last whole epoch if an earlier attempt left one.

    Returns:
        The weights of the best validation accuracy, the step they are from, and the number of steps made.

    Raises:
        KeyboardInterrupt: somebody interrupts. Lightning alone would return as if all were done.
    """
    recipe, folder = task.recipe, work / "checkpoints"
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    if last.is_file() and not zipfile.is_zipfile(last):
        warnings.warn(f"{last} is damaged, by a full disk perhaps; this training starts again from the beginning", stacklevel=2)
        shutil.rmtree(folder)
    attempt = f"attempt_{len(list(work.glob('csv/attempt_*')))}"
    kept = {"dirpath": folder, "enable_version_counter": False}
    callbacks = [
        ModelCheckpoint(filename="best", monitor="val_accuracy", mode="max", save_weights_only=True, **kept),
        # What to resume from. Whole epochs, since everything random is drawn anew at the start of an epoch.
        ModelCheckpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=True, **kept),
    ]
    if recipe.patience:
        callbacks.append(EarlyStopping("val_accuracy", mode="max", patience=recipe.patience))
    with quiet(), deterministic(), _alone(hardware), torch.random.fork_rng():
        trainer = lightning.Trainer(
            **trainer_options(hardware, task),
            max_epochs=recipe.epochs,
            logger=[CSVLogger(work, "csv", attempt), TensorBoardLogger(work, "tensorboard", attempt)],
            callbacks=callbacks,
            enable_progress_bar=_shows(progress),
            val_check_interval=1 / recipe.validations,
        )
        where = {"rank": trainer.global_rank, "world": trainer.world_size}
        workers = min(allotted_processes() - 1, 4) if train.device is None else 0
        share = max(recipe.batch_size // trainer.world_size, 1)
        batches = EpochLoader(
            train, share, seed=task.seed, flip=recipe.flip, raw=task.distiller is not None, workers=workers, **where
        )
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


def trainer_options(hardware: Hardware, task: TrainingTask) -> dict:
    """Of Lightning's Trainer, for any training on this hardware."""
    strategy = "auto"
    if hardware.processes > 1:
        # A notebook has no script for a second process to run: there they are forked.
        strategy = "ddp_fork" if from_notebook() else "ddp"
        if task.recipe.classifier_epochs:
            strategy += "_find_unused_parameters_true"
    return {
        "accelerator": "gpu" if hardware.kind == "cuda" else "cpu",
        "devices": hardware.devices,
        "num_nodes": hardware.nodes,
        "precision": hardware.precision,
        "strategy": strategy,
        # Some backward passes of torchvision's layers have no deterministic form on CUDA.
        "deterministic": True if hardware.kind == "cpu" else "warn",
        "plugins": [LightningEnvironment()] if hardware.processes == 1 else None,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY,
        "use_distributed_sampler": False,
    }


@contextlib.contextmanager
def _alone(hardware):
    """For one process: what a launcher left in the environment (RANK, SLURM_…) does not count."""
    before = rank_zero_only.rank
    if hardware.processes == 1:
        rank_zero_only.rank = 0
    try:
        yield
    finally:
        rank_zero_only.rank = before


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
