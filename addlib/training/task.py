"""The Lightning module: a detector on one quality, alone or as the student of a frozen teacher."""

from __future__ import annotations

import lightning
import torch
from torch import nn
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from .recipe import Recipe

# Steps between two looks at whether the loss is still a number: every look waits for the GPU.
CHECK_EVERY = 50


class TrainingTask(lightning.LightningModule):
    """Trains ``detector`` on the compressed side of pairs.

    Args:
        detector: a module whose output is ``addlib.detectors.Detection``, with its last layer in ``head``.
        recipe: settings.
        teacher: frozen, always in evaluation mode, sees the raw side; needed if there is a distiller.
        distiller: see ``addlib.training.distillers``; None trains on the labels alone.
        seed: of the shift of crops, the views and pairs of the losses, and whatever else draws inside the networks.

    Logs ``train_*`` terms of the loss every ``log_every_n_steps``, ``val_loss``, ``val_accuracy`` and ``val_auc`` at
    every validation.

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
        if teacher is not None:
            teacher.eval().requires_grad_(False)
        self.val_loss, self.val_accuracy = MeanMetric(), BinaryAccuracy(validate_args=False)
        self.val_auc = BinaryAUROC(validate_args=False)
        self._first_bad = {}

    @property
    def teacher(self):
        return self._teacher[0]

    def setup(self, stage):
        if self.teacher is not None:
            self.teacher.to(self.device)

    def configure_optimizers(self):
        recipe = self.recipe
        parameters = [*self.detector.parameters(), *(self.distiller.parameters() if self.distiller else ())]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        options = {"betas": recipe.betas, "eps": recipe.eps, "weight_decay": recipe.weight_decay}
        optimizer = kind(parameters, recipe.learning_rate, **options)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            recipe.learning_rate,
            total_steps=steps,
            pct_start=recipe.warm_up,
            cycle_momentum=recipe.cycle_momentum,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self):
        epoch = self.current_epoch
        # Everything random in an epoch follows from the seed and its number, so that it can be resumed at its start.
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        self.trainer.train_dataloader.epoch = epoch
        body_learns = epoch >= self.recipe.classifier_epochs
        for parameter in self.detector.parameters():
            parameter.requires_grad_(body_learns)
        self.detector.head.requires_grad_(True)
        if hasattr(self.distiller, "frequency_on"):
            self.distiller.frequency_on = epoch >= self.recipe.frequency_from

    def training_step(self, batch, index):
        raw, compressed, labels = batch
        generator = self._generator()
        raw, compressed = self._window(generator, raw, compressed)
        answer = self.detector(compressed)
        terms = {"cross_entropy": functional.cross_entropy(answer.logits.float(), labels)}
        if self.distiller is not None:
            with torch.no_grad():
                target = self.teacher(raw)
            terms |= self.distiller(answer, target, labels, generator)
        loss = torch.stack(list(terms.values())).sum()
        self._watch(terms)
        self.log_dict({f"train_{name}": term.detach() for name, term in terms.items()})
        self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch, index):
        _, compressed, labels = batch
        logits = self.detector(centre(compressed, self.recipe.shift)).logits.float()
        self.val_loss.update(functional.cross_entropy(logits, labels), len(labels))
        # The logit of the odds, not the probability: float32 rounds those of a sure network to 1.
        odds = logits[:, 1] - logits[:, 0]
        self.val_accuracy.update((odds > 0).long(), labels)
        self.val_auc.update(odds.sigmoid().double(), labels)

    def on_validation_epoch_start(self):
        self._check()

    def on_validation_epoch_end(self):
        for name in ("val_loss", "val_accuracy", "val_auc"):
            metric = getattr(self, name)
            self.log(name, metric.compute(), prog_bar=name != "val_loss")
            metric.reset()

    def on_train_end(self):
        self._check()

    def _generator(self):
        """For the draws of one step, on the CPU, so that every device draws the same."""
        number = (self.seed * 1_000_003 + self.global_step) * 1_009 + self.global_rank
        return torch.Generator().manual_seed(number % 2**63)

    def _window(self, generator, *crops):
        """The same random window of all crops of a batch; the whole crops if the recipe does not shift."""
        margin = self.recipe.shift
        top, left = torch.randint(0, margin + 1, (2,), generator=generator).tolist()
        return tuple(
            crop[..., top : crop.shape[-2] - margin + top, left : crop.shape[-1] - margin + left] for crop in crops
        )

    def _watch(self, terms):
        """Remember, without waiting for the device, the first step at which each term was not finite."""
        for name, term in terms.items():
            step = torch.where(torch.isfinite(term.detach()), torch.inf, float(self.global_step))
            before = self._first_bad.get(name)
            self._first_bad[name] = step if before is None else torch.minimum(before, step)
        if (self.global_step + 1) % CHECK_EVERY == 0:
            self._check()

    def _check(self):
        steps = {name: int(step) for name, step in self._first_bad.items() if torch.isfinite(step)}
        self._first_bad = {}
        if steps:
            # Once the weights are spoilt every term is: the earliest are to blame.
            first = min(steps.values())
            names = ", ".join(name for name, step in steps.items() if step == first)
            raise FloatingPointError(
                f"the loss was not finite at step {first}, in {names}; lower the learning rate or the weight of this "
                "term, or train with precision='32-true'"
            )


def centre(crops, margin):
    """The middle of crops (..., H, W), ``margin`` pixels smaller."""
    first, last = margin // 2, margin - margin // 2
    return crops[..., first : crops.shape[-2] - last, first : crops.shape[-1] - last]
