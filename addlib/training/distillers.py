"""The losses between student and teacher, by name.

A distiller is a module: (student, teacher, labels, generator) -> named terms, each already weighted. Its parameters, if
it has any, are trained with the student.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from addlib.detectors import Detection
from addlib.losses import (
    PUBLISHED_STAGE_WEIGHTS_FR,
    PUBLISHED_STAGE_WEIGHTS_MV,
    ADDLoss,
    AttentionTransferLoss,
    HintLoss,
    NonLocalLoss,
)


class FitNetDistiller(nn.Module):
    """Hint learning on the embedding: Romero et al. (ICLR 2015), see ``addlib.losses.hint``.

    widths: D of student and teacher; a linear layer between them where they differ. weight: of the term.
    variant: "published", 2 - 2 cos, the form with which the paper's table was made; or "paper".
    """

    def __init__(self, widths, weight=1.0, variant="published"):
        super().__init__()
        self.weight = weight
        student, teacher = widths
        self.loss = HintLoss(variant=variant) if student == teacher else HintLoss(student, teacher, variant)

    def forward(self, student: Detection, teacher: Detection, labels, generator=None) -> dict[str, Tensor]:
        return {"hint": self.weight * self.loss(student.embedding, teacher.embedding)}


class AttentionTransferDistiller(nn.Module):
    """Attention transfer summed over the stages: Zagoruyko and Komodakis (ICLR 2017). weight: 1000, theirs for the mean of squares."""

    def __init__(self, weight=1000.0):
        super().__init__()
        self.weight, self.loss = weight, AttentionTransferLoss()

    def forward(self, student, teacher, labels, generator=None):
        stages = zip(student.stages, teacher.stages, strict=True)
        return {"attention": self.weight * torch.stack([self.loss(*pair) for pair in stages]).sum()}


class NonLocalDistiller(nn.Module):
    """Self-attention features of every stage: see ``addlib.losses.non_local``. channels: of the stages. weight: of the term."""

    def __init__(self, channels, weight=1.0):
        super().__init__()
        self.weight, self.loss = weight, NonLocalLoss(channels)

    def forward(self, student, teacher, labels, generator=None):
        return {"non_local": self.weight * self.loss(student.stages, teacher.stages)}


class SoftTargetDistiller(nn.Module):
    """Knowledge distillation: cross-entropy to the teacher's softened answer, Hinton, Vinyals and Dean (2015), eq. 1–2.

    temperature: T of both softmaxes. weight: of the term, which is multiplied by T² as they advise, so that its gradient
    keeps its size when T changes.
    """

    def __init__(self, weight=1.0, temperature=4.0):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected more than 0")
        self.weight, self.temperature = weight, temperature

    def forward(self, student, teacher, labels, generator=None):
        target = (teacher.logits.detach().float() / self.temperature).softmax(1)
        answer = (student.logits.float() / self.temperature).log_softmax(1)
        divergence = functional.kl_div(answer, target, reduction="batchmean")
        return {"soft_target": self.weight * self.temperature**2 * divergence}


class AttentionDistiller(nn.Module):
    """Frequency and multi-view attention, eq. 10 of Le and Woo (AAAI 2022): FR (beta 0), MV (alpha 0) or ADD (both).

    stages: number of stages of the backbone. alpha, beta: weights of both terms. stage_weights_fr, stage_weights_mv:
    weight of every stage, default those of the published code on the last four stages. The other settings are those of
    ``addlib.losses.ADDLoss``. ``frequency_on`` switches the frequency term; the task does so by the recipe.
    """

    def __init__(self, stages, alpha, beta, stage_weights_fr=None, stage_weights_mv=None, **settings):
        super().__init__()
        self.loss = ADDLoss(
            _deepest(stages, PUBLISHED_STAGE_WEIGHTS_FR) if stage_weights_fr is None else stage_weights_fr,
            _deepest(stages, PUBLISHED_STAGE_WEIGHTS_MV) if stage_weights_mv is None else stage_weights_mv,
            alpha,
            beta,
            **settings,
        )
        self.alpha, self.frequency_on = self.loss.alpha, True

    def forward(self, student, teacher, labels, generator=None):
        self.loss.alpha = self.alpha if self.frequency_on else 0.0
        terms = self.loss.terms(student.stages, teacher.stages, labels, generator=generator)
        found = {}
        if self.alpha:
            found["frequency"] = self.loss.alpha * terms.frequency
        if self.loss.beta:
            found["multi_view"] = self.loss.beta * terms.multi_view
        return found


def _deepest(stages, weights):
    """The weights on the deepest stages, 0 on those before."""
    if stages < len(weights):
        raise ValueError(
            f"the backbone has {stages} stages, the published stage weights are for {len(weights)}; "
            "give stage_weights_fr and stage_weights_mv"
        )
    return (0.0,) * (stages - len(weights)) + tuple(weights)


DISTILLERS = ("none", "fitnet", "at", "nl", "kd", "fr", "mv", "add")


def create_distiller(name, student: Detection, teacher: Detection, *, alpha=1.0, beta=16.0, **settings):
    """A distiller by name, fitted to what both networks give back for one batch.

    name: "none" (returns None), "fitnet", "at", "nl", "kd", "fr", "mv" or "add". alpha, beta: weights of eq. 10 for the
    last three, not accepted elsewhere if changed. settings: of the distiller's class, such as ``weight``.
    Raises ValueError for an unknown name, a setting that the distiller does not have, or maps that do not fit.
    """
    if name not in DISTILLERS:
        raise ValueError(f"unknown distiller {name!r}; there are {list(DISTILLERS)}")
    stages, channels = len(student.stages), [stage.shape[1] for stage in student.stages]
    widths = (student.embedding.shape[1], teacher.embedding.shape[1])
    if name in ("at", "nl", "fr", "mv", "add"):
        shapes = [tuple(tuple(stage.shape[1:]) for stage in side.stages) for side in (student, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"stages differ: student {shapes[0]}, teacher {shapes[1]}; {name!r} compares stage with stage, so give "
                "both the same backbone, or distil with 'fitnet' or 'kd'"
            )
    weights = {"alpha": alpha, "beta": beta}
    if name not in ("fr", "mv", "add") and weights != {"alpha": 1.0, "beta": 16.0}:
        raise ValueError(f"{name!r} has no alpha or beta; its setting is weight")
    builders = {
        "none": lambda: None,
        "fitnet": lambda **more: FitNetDistiller(widths, **more),
        "at": AttentionTransferDistiller,
        "nl": lambda **more: NonLocalDistiller(channels, **more),
        "kd": SoftTargetDistiller,
        "fr": lambda **more: AttentionDistiller(stages, alpha, 0.0, **more),
        "mv": lambda **more: AttentionDistiller(stages, 0.0, beta, **more),
        "add": lambda **more: AttentionDistiller(stages, alpha, beta, **more),
    }
    try:
        return builders[name](**settings)
    except TypeError as error:
        raise ValueError(f"settings {sorted(settings)} do not fit distiller {name!r}: {error}") from error
