"""The Lightning module, and the batches that it is given. Imported when a training starts: Lightning takes seconds."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from addlib.detectors import normalisation
from addlib.faceforensics.pairs import FacePairs, normalised
from addlib.metrics import auc

from .prediction import HALF
from .recipe import Recipe

LOG_EVERY = 10  # steps
CHECK_EVERY = 50  # steps between two looks at whether the loss is still a number: every look waits for the GPU


class TrainingTask(lightning.LightningModule):
    """Trains ``detector`` on the compressed side of pairs, beside a ``teacher`` on the raw side if there is a distiller.

    Logs ``train_*`` terms of the loss every ``LOG_EVERY`` steps, and ``val_loss``, ``val_accuracy`` and ``val_auc`` (NaN where
    validation has one class) at every validation.

    Args:
        detector: a module whose output is ``addlib.detectors.Detection``, with its last layer in ``head``.
        teacher: see ``frozen_copy``.
        seed: of the shift of crops, the views and pairs of the losses, and whatever else draws inside the networks.

    Raises:
        FloatingPointError: during training, when a term of the loss is not finite; the message names term and step.
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
        options = {"betas": recipe.betas, "eps": recipe.eps, "weight_decay": recipe.weight_decay}
        optimizer = kind(self.parameters(), recipe.learning_rate, **options)
        steps = int(self.trainer.estimated_stepping_batches)
        options = {"pct_start": recipe.warm_up, "cycle_momentum": recipe.cycle_momentum}
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps, **options)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        epoch = self.current_epoch
        # Everything random in an epoch follows from the seed and its number, so that it can be resumed at its start.
        torch.manual_seed(self.seed * 1_000_003 + epoch)
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
            terms |= self.distiller(answer, target, labels, generator)
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
    """A teacher that only answers, in evaluation mode; the one given stays as it is.

    Its kernels are stored in autocast's format, to which autocast would convert them anew in every step: the same bits.
    """
    frozen = copy.deepcopy(teacher).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    for module in frozen.modules() if type(teacher).__module__.startswith("addlib.") else ():
        if isinstance(module, nn.Conv2d):
            module.to(HALF.get(precision))
    return frozen


class EpochLoader:
    """``FacePairs.batches`` for Lightning; iterating again gives the same epoch until ``epoch`` is set.

    ``training`` shuffles, and gives complete batches only. Raises ValueError if there is not one for every device.
    """

    def __init__(
        self, pairs: FacePairs, batch_size: int, *, training: bool = True, rank: int = 0, world: int = 1, **options
    ):
        self.pairs, self.epoch, self.options = (
            pairs,
            0,
            options | {"batch_size": batch_size, "rank": rank, "world": world},
        )
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
