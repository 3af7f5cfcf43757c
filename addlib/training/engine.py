"""Lightning's module and Trainer, set up for one training. Imported when one starts: Lightning takes seconds."""

import builtins
import contextlib
import copy
import logging
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError
from torch.nn import functional

from addlib.detectors import normalisation
from addlib.faceforensics.pairs import FacePairs, normalised
from addlib.metrics import auc
from addlib.parallel import allotted_processes

from .hardware import HALF, Hardware, from_notebook
from .recipe import Recipe

LOG_EVERY = 10  # steps
CHECK_EVERY = 50  # steps between two looks at whether the loss is still a number: every look waits for the GPU


def _checked(terms: object) -> dict[str, Tensor]:
    named = isinstance(terms, dict) and not terms.keys() & {"cross_entropy", "loss"}
    if not named or not all(isinstance(term, Tensor) and term.ndim == 0 for term in terms.values()):
        found = {name: getattr(term, "shape", term) for name, term in terms.items()} if isinstance(terms, dict) else terms
        expected = "a dict of scalar tensors by name, none of them 'cross_entropy', which is the labels', or 'loss', their sum"
        raise ValueError(f"the distiller returned {found}; expected {expected}")
    return terms


class TrainingTask(lightning.LightningModule):
    """Trains ``detector`` on the compressed side of pairs, beside a frozen ``teacher`` on the raw side if there is a distiller.

    Logs ``train_*`` terms of the loss every ``LOG_EVERY`` steps, and ``val_loss``, ``val_accuracy`` and ``val_auc`` at every
    validation. Raises FloatingPointError when a term of the loss is not finite; the message names term and step.
    """

    def __init__(self, detector: nn.Module, recipe: Recipe, *, teacher=None, distiller=None, seed: int = 0):
        super().__init__()
        self.detector, self.recipe, self.distiller, self.seed = detector, recipe, distiller, seed
        # In a tuple, so that the frozen teacher is no part of the student's state: checkpoints stay small.
        self._teacher = (teacher,)
        self._terms, self._answers = [], []

    def setup(self, stage: str) -> None:
        if self.distiller is not None:
            self._teacher[0].to(self.device)

    def configure_optimizers(self) -> dict:
        recipe = self.recipe
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        optimizer = kind(self.parameters(), recipe.learning_rate, recipe.betas, recipe.eps, recipe.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        options = {"pct_start": recipe.warm_up, "cycle_momentum": recipe.cycle_momentum}
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps, **options)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        epoch = self.current_epoch
        # Everything random in an epoch follows from the seed and its number, so that it can be resumed at its start.
        torch.manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        self.trainer.train_dataloader.epoch = epoch
        self.detector.requires_grad_(epoch >= self.recipe.classifier_epochs)
        self.detector.head.requires_grad_(True)
        if self.distiller is not None:
            self.distiller.start_epoch(epoch, self.recipe)

    def training_step(self, batch, index: int) -> Tensor:
        raw, compressed, labels = batch
        # On the CPU, so that every device draws the same.
        number = (self.seed * 1_000_003 + self.global_step) * 1_009 + self.global_rank
        generator = torch.Generator().manual_seed(number % 2**63)
        place = torch.randint(0, self.recipe.shift + 1, (2,), generator=generator).tolist()
        answer = self.detector(self._window(compressed, *place))
        terms = {"cross_entropy": functional.cross_entropy(answer.logits.float(), labels)}
        if self.distiller is not None:
            with torch.no_grad():
                target = self._teacher[0](self._window(raw, *place))
            terms |= _checked(self.distiller(answer, target, labels, generator))
        loss = torch.stack(list(terms.values())).sum()
        seen = {name: term.detach() for name, term in terms.items()}
        # Looked at later: asking now whether they are finite would wait for the device.
        self._terms.append((self.global_step, seen))
        step = self.global_step + 1
        if step % CHECK_EVERY == 0:
            self._check()
        if step % LOG_EVERY == 0:
            self.log_dict({f"train_{name}": term for name, term in seen.items()})
            self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch, index: int) -> None:
        _, compressed, labels = batch
        logits = self.detector(self._window(compressed, *[self.recipe.shift // 2] * 2)).logits.float()
        loss = functional.cross_entropy(logits, labels) * len(labels)
        # The log of the odds, not the probability: float32 rounds those of a sure network to 1.
        self._answers.append((loss[None], logits[:, 1] - logits[:, 0], labels))

    def on_validation_epoch_end(self) -> None:
        found, self._answers = [[torch.cat(part).cpu() for part in zip(*self._answers, strict=True)]], []
        if self.trainer.world_size > 1:
            found *= self.trainer.world_size
            torch.distributed.all_gather_object(found, found[0])
        losses, odds, labels = (torch.cat(part) for part in zip(*found, strict=True))
        self.log("val_loss", sum(losses) / len(labels))
        self.log("val_accuracy", ((odds > 0) == (labels == 1)).float().mean(), prog_bar=True)
        self.log("val_auc", float(auc(odds.double().numpy(), labels.numpy())), prog_bar=True)

    def _window(self, crops: Tensor, top: int, left: int) -> Tensor:
        """A window of a batch, normalised: the same for teacher and student."""
        side = crops.shape[-1] - self.recipe.shift
        return normalised(crops[..., top : top + side, left : left + side], *normalisation(self.detector.name))

    def _check(self) -> None:
        seen, self._terms = [(step, name, term) for step, terms in self._terms for name, term in terms.items()], []
        finite = torch.stack([term for *_, term in seen]).isfinite().tolist() if seen else []
        bad = [(step, name) for (step, name, _), good in zip(seen, finite, strict=True) if not good]
        if bad:
            # Once the weights are spoilt every term is: the earliest are to blame.
            names = ", ".join(name for step, name in bad if step == bad[0][0])
            remedy = "lower the learning rate or the weight of this term, or train with precision='32-true'"
            raise FloatingPointError(f"the loss was not finite at step {bad[0][0]}, in {names}; {remedy}")

    on_validation_epoch_start = on_train_end = _check


def frozen_copy(teacher: nn.Module, precision: str) -> nn.Module:
    """A copy of a teacher that only answers.

    Of a detector of addlib, BatchNorms are part of the convolutions before them, and kernels are in autocast's format, which
    would convert them anew in every step.
    """
    frozen = copy.deepcopy(teacher).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    if type(teacher).__module__.startswith("addlib."):
        frozen.check = lambda crops: None  # it asks for shapes, which a trace does not have; the student checks the same
        with contextlib.suppress(TraceError):  # of F3-Net
            frozen = fuse(frozen, inplace=True)
        for module in frozen.modules():
            if isinstance(module, nn.Conv2d):
                module.to(HALF.get(precision))
    return frozen


class EpochLoader:
    """``FacePairs.batches`` for Lightning; iterating again gives the same epoch until ``epoch`` is set.

    ``training`` shuffles, and gives complete batches only. Raises ValueError if there is not one for every device.
    """

    def __init__(self, pairs: FacePairs, batch_size: int, *, training=True, rank: int = 0, world: int = 1, **options):
        self.pairs, self.epoch = pairs, 0
        self.options = options | {"batch_size": batch_size, "rank": rank, "world": world}
        self.options |= {"shuffle": training, "drop_last": training}
        share = len(range(rank, len(pairs), world))
        self.steps = len(pairs) // (batch_size * world) if training else -(-share // batch_size)
        if not self.steps:
            problem = f"{len(pairs)} training pairs make no batch of {batch_size} on each of {world} devices"
            raise ValueError(f"{problem}; choose a smaller batch_size, or prepare more crops")

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator:
        # A generator, so that ``epoch`` is read at the first batch: Lightning asks for the iterator before it tells the epoch.
        yield from self.pairs.batches(epoch=self.epoch, **self.options)


def run_trainer(task, train, val, work: Path, hardware: Hardware, compile, progress) -> tuple[dict, int, int]:
    """Train a ``TrainingTask`` in the folder ``work``, from its last whole epoch if an earlier attempt left one.

    Returns the weights of the best validation accuracy, the step they are from, and the number of steps made.
    """
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
            **trainer_options(hardware, recipe.classifier_epochs > 0), max_epochs=recipe.epochs, callbacks=callbacks,
            logger=CSVLogger(work, "csv", attempt), enable_progress_bar=progress, val_check_interval=1 / recipe.validations,
        )  # fmt: skip
        where = {"rank": trainer.global_rank, "world": trainer.world_size}
        share = max(recipe.batch_size // trainer.world_size, 1)
        options = {"seed": task.seed, "flip": recipe.flip, "raw": task.distiller is not None}
        options |= {"workers": min(allotted_processes() - 1, 4) if train.device is None else 0}
        batches = EpochLoader(train, share, **options, **where)
        held_out = EpochLoader(val, max(share, 64), training=False, raw=False, **where)
        task.detector.to(memory_format=torch.channels_last)
        if compile:
            task.detector.compile()
        try:
            trainer.fit(task, batches, held_out, ckpt_path=last if last.is_file() else None)
        except SystemExit:  # what Lightning makes of an interrupt
            if not trainer.interrupted:
                raise
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.strategy.barrier()
        # From the files: processes that Lightning forked in a notebook leave nothing else.
        found, end = (torch.load(path, map_location="cpu", weights_only=True) for path in (best, last))
    weights = {name: value for name, value in found["state_dict"].items() if name.startswith("detector.")}
    nn.modules.utils.consume_prefix_in_state_dict_if_present(weights, "detector.")
    return weights, found["global_step"], end["global_step"]


def trainer_options(hardware: Hardware, freezes: bool = False) -> dict:
    """Of Lightning's Trainer, for any training on this hardware; freezes: some parameters get no gradient at times."""
    several = hardware.processes > 1
    # A notebook has no script for a second process to run: there they are forked.
    strategy = ("ddp_fork" if from_notebook() else "ddp") + "_find_unused_parameters_true" * freezes
    return {
        "accelerator": "gpu" if hardware.kind == "cuda" else "cpu", "devices": hardware.processes,
        "precision": hardware.precision, "strategy": strategy if several else "auto",
        # Some backward passes of torchvision's layers have no deterministic form on CUDA.
        "deterministic": True if hardware.kind == "cpu" else "warn",
        "plugins": None if several else [LightningEnvironment()], "use_distributed_sampler": False,
        "enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": LOG_EVERY,
    }  # fmt: skip


@contextlib.contextmanager
def undisturbed(hardware: Hardware) -> Iterator[None]:
    """Puts back what a Trainer changes for the whole process: torch's choice of algorithms, random numbers, environment.

    Its notices and advice, which would end up on a page, are silenced; warnings of others pass. For one process, what a
    launcher left in the environment (RANK, SLURM_…) does not count.
    """
    alone = hardware.processes == 1
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # Otherwise every new tensor is filled before it is written: memory traffic for code that reads what nobody wrote.
    changes = [(torch.utils.deterministic, "fill_uninitialized_memory", False), *[(rank_zero_only, "rank", 0)] * alone]
    # Several GPUs: whoever asks one for its random numbers uses it, and then Lightning cannot fork.
    devices = [0] if alone and hardware.kind == "cuda" else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices), contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(hardware.kind, enabled=False))  # the caller's
        stack.enter_context(patch.dict(os.environ))
        warnings.filterwarnings("ignore", module="lightning")
        for logger in (logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for place, name, value in changes:
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, value)
        stack.callback(torch.use_deterministic_algorithms, enabled, warn_only=warn)
        yield
