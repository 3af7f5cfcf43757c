"""The Lightning module, and the batches that it is given. Imported when a training starts: Lightning takes seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from addlib.detectors import normalisation
from addlib.faceforensics.pairs import FacePairs, normalised
from addlib.metrics import auc

from .prediction import centre
from .recipe import Recipe

LOG_EVERY = 10  # steps
CHECK_EVERY = 50  # steps between two looks at whether the loss is still a number: every look waits for the GPU


class TrainingTask(lightning.LightningModule):
    """Trains ``detector`` on the compressed side of pairs.

    Logs ``train_*`` terms of the loss every ``LOG_EVERY`` steps, and ``val_loss``, ``val_accuracy`` and ``val_auc`` (NaN where
    validation has one class) at every validation.

    Args:
        detector: a module whose output is ``addlib.detectors.Detection``, with its last layer in ``head``.
        recipe: settings.
        teacher: frozen, see ``frozen_copy``; sees the raw side. Needed if there is a distiller.
        distiller: see ``addlib.training.distillers``; None trains on the labels alone.
        seed: of the shift of crops, the views and pairs of the losses, and whatever else draws inside the networks.

    Raises:
        FloatingPointError: during training, when a term of the loss is not finite; the message names term and step.
    """

    def __init__(self, detector: nn.Module, recipe: Recipe, *, teacher=None, distiller=None, seed: int = 0):
        super().__init__()
        if (teacher is None) != (distiller is None):
            raise ValueError("a distiller needs a teacher, and a teacher a distiller; got one without the other")
        self.detector, self.recipe, self.distiller, self.seed = detector, recipe, distiller, seed
        # In a tuple, so that the frozen teacher is no part of the student's state: checkpoints stay small.
        self._teacher = (teacher,)
        self._terms, self._answers = [], []

    def setup(self, stage: str) -> None:
        for teacher in filter(None, self._teacher):
            teacher.to(self.device)

    def configure_optimizers(self) -> dict:
        recipe = self.recipe
        parameters = [*self.detector.parameters(), *(self.distiller.parameters() if self.distiller else ())]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        options = {"betas": recipe.betas, "eps": recipe.eps, "weight_decay": recipe.weight_decay}
        optimizer = kind(parameters, recipe.learning_rate, **options)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            recipe.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=recipe.warm_up,
            cycle_momentum=recipe.cycle_momentum,
        )
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
        margin = self.recipe.shift
        place = torch.randint(0, margin + 1, (2,), generator=generator).tolist()
        answer = self.detector(self._window(compressed, place))
        terms = {"cross_entropy": functional.cross_entropy(answer.logits.float(), labels)}
        if self.distiller is not None:
            with torch.no_grad():
                target = self._teacher[0](self._window(raw, place))
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

    def on_validation_epoch_start(self) -> None:
        self._check()

    def validation_step(self, batch, index: int) -> None:
        _, compressed, labels = batch
        margin = self.recipe.shift
        crops = normalised(centre(compressed, margin), *normalisation(self.detector.name))
        logits = self.detector(crops).logits.float()
        loss = functional.cross_entropy(logits, labels) * len(labels)
        # The log of the odds, not the probability: float32 rounds those of a sure network to 1.
        self._answers.append((loss, logits[:, 1] - logits[:, 0], labels))

    def on_validation_epoch_end(self) -> None:
        losses, odds, labels = (list(parts) for parts in zip(*self._answers, strict=True))
        found = torch.stack(losses).cpu(), torch.cat(odds).cpu(), torch.cat(labels).cpu()
        self._answers = []
        if self.trainer.world_size > 1:
            everywhere = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everywhere, found)
            found = [torch.cat(parts) for parts in zip(*everywhere, strict=True)]
        losses, odds, labels = found
        accuracy = ((odds > 0) == (labels == 1)).float().mean()
        self.log("val_loss", sum(losses) / len(labels))
        self.log("val_accuracy", accuracy, prog_bar=True)
        self.log("val_auc", float(auc(odds.double().numpy(), labels.numpy())), prog_bar=True)

    def on_train_end(self) -> None:
        self._check()

    def _window(self, crops: Tensor, place: list[int]) -> Tensor:
        """The window of a batch at (top, left), normalised: the same for teacher and student."""
        (top, left), side = place, crops.shape[-1] - self.recipe.shift
        return normalised(crops[..., top : top + side, left : left + side], *normalisation(self.detector.name))

    def _check(self) -> None:
        kept, self._terms = self._terms, []
        if not kept:
            return
        finite = torch.stack([term for _, terms in kept for term in terms.values()]).isfinite().tolist()
        for step, terms in kept:
            bad = [name for name in terms if not finite.pop(0)]
            if bad:
                # Once the weights are spoilt every term is: the earliest are to blame.
                raise FloatingPointError(
                    f"the loss was not finite at step {step}, in {', '.join(bad)}; lower the learning rate or the weight of "
                    "this term, or train with precision='32-true'"
                )


class EpochLoader:
    """Batches of pairs for Lightning; iterating again gives the same epoch until ``epoch`` is set.

    Args:
        pairs: of a split.
        batch_size: pairs in a batch of one device.
        training: shuffled and complete batches only, else all pairs in order.
        rank, world: which process of how many.
        options: of ``FacePairs.batches``.

    Raises:
        ValueError: fewer pairs than one batch on every device.
    """

    def __init__(self, pairs: FacePairs, batch_size: int, *, training: bool = True, rank: int = 0, world: int = 1, **options):
        self.pairs, self.batch_size, self.training, self.rank, self.world = pairs, batch_size, training, rank, world
        self.options, self.epoch = options, 0
        if training and len(self) == 0:
            raise ValueError(
                f"{len(pairs)} training pairs make no batch of {batch_size} on each of {world} devices; "
                "choose a smaller batch_size, or prepare more crops"
            )

    def __len__(self) -> int:
        if self.training:
            return len(self.pairs) // (self.batch_size * self.world)
        return math.ceil(len(range(self.rank, len(self.pairs), self.world)) / self.batch_size)

    def __iter__(self) -> Iterator:
        # A generator, so that ``epoch`` is read at the first batch: Lightning asks for the iterator before it tells the epoch.
        which = {"shuffle": self.training, "drop_last": self.training, "rank": self.rank, "world": self.world}
        yield from self.pairs.batches(self.batch_size, epoch=self.epoch, **which, **self.options)
