"""The losses between student and teacher, by name, and how to add one."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from addlib.detectors import Detection
from addlib.losses import (
    PUBLISHED_STAGE_WEIGHTS_FR,
    PUBLISHED_STAGE_WEIGHTS_MV,
    ADDLoss,
    AttentionTransferLoss,
    HintLoss,
    NonLocalLoss,
    SoftTargetLoss,
)

# Name → what builds it, (student, teacher, **settings) -> Distiller, and the settings that the name fixes.
DISTILLERS: dict[str, tuple[Callable[..., Distiller] | None, dict]] = {"none": (None, {})}


class Distiller(nn.Module):
    """A loss between student and teacher; its parameters, if it has any, are trained with the student."""

    def start_epoch(self, epoch: int, recipe) -> None:
        """Called before each epoch, counted from 0."""

    def forward(
        self, student: Detection, teacher: Detection, labels: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Named terms, scalars, each already weighted.

        Args:
            student, teacher: answers to the same batch, the teacher's without gradient.
            labels: (B,).
            generator: a CPU generator, for whatever the loss draws.
        """
        raise NotImplementedError


def register_distiller(name: str, **fixed) -> Callable:
    """Decorator that adds a distiller under a name, which ``fit_student`` and grids then take.

    It decorates a :class:`Distiller` whose first two arguments are the answers of student and teacher to one batch, from which
    it takes its widths. The other arguments are its settings, and their defaults stand there alone.

    Args:
        name: a new one.
        fixed: settings that the name fixes.

    Raises:
        ValueError: the name is taken.
    """

    def add(build):
        if name in DISTILLERS and getattr(DISTILLERS[name][0], "__module__", None) != build.__module__:
            raise ValueError(f"there is a distiller {name!r} already; take another name")
        DISTILLERS[name] = build, fixed
        return build

    return add


def create_distiller(name: str, student: Detection, teacher: Detection, **settings) -> Distiller | None:
    """A distiller by name, fitted to what both networks answer to one batch; None for "none".

    Args:
        name: one of ``DISTILLERS``.
        student, teacher: the answers.
        settings: what differs from the distiller's defaults.

    Raises:
        ValueError: unknown name or setting, or maps that do not fit.
    """
    build, fixed = _entry(name)
    if unknown := sorted(settings.keys() - distiller_defaults(name).keys()):
        raise ValueError(f"distiller {name!r} has no {unknown}; it has {sorted(distiller_defaults(name))}")
    return None if build is None else build(student, teacher, **fixed, **settings)


def distiller_defaults(name: str) -> dict:
    """The settings that a distiller has, with their defaults."""
    build, fixed = _entry(name)
    signatures = [] if build is None else [build, *getattr(build, "settings_of", ())]
    parameters = [p for each in signatures for p in inspect.signature(each).parameters.values()]
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in fixed}


def changed_settings(name: str, settings: dict, defaults: dict | None = None) -> dict:
    """The settings that differ from the distiller's defaults, or from those that a backbone puts in their place."""
    known = distiller_defaults(name) | (defaults or {})
    return {key: value for key, value in settings.items() if key not in known or known[key] != value}


def _entry(name):
    if name not in DISTILLERS:
        raise ValueError(f"unknown distiller {name!r}; there are {list(DISTILLERS)}")
    return DISTILLERS[name]


@register_distiller("fitnet")
class FitNetDistiller(Distiller):
    """Hint learning on the embedding: Romero et al. (ICLR 2015), see :class:`addlib.losses.HintLoss`.

    Args:
        weight: of the term.
        variant: "published", 2 - 2 cos, the form with which the paper's table was made; or "paper".
    """

    def __init__(self, student: Detection, teacher: Detection, weight: float = 1.0, variant: str = "published"):
        super().__init__()
        widths = [side.embedding.shape[1] for side in (student, teacher)]
        self.weight = weight
        self.loss = HintLoss(variant=variant) if widths[0] == widths[1] else HintLoss(*widths, variant)

    def forward(self, student, teacher, labels, generator=None):
        return {"hint": self.weight * self.loss(student.embedding, teacher.embedding)}


@register_distiller("at")
class AttentionTransferDistiller(Distiller):
    """Attention transfer summed over the stages: Zagoruyko and Komodakis (ICLR 2017).

    Args:
        weight: of the term; 1000 is theirs for the mean of squares.
    """

    def __init__(self, student: Detection, teacher: Detection, weight: float = 1000.0):
        super().__init__()
        _check_stages(student, teacher)
        self.weight, self.loss = weight, AttentionTransferLoss()

    def forward(self, student, teacher, labels, generator=None):
        stages = zip(student.stages, teacher.stages, strict=True)
        return {"attention": self.weight * torch.stack([self.loss(*pair) for pair in stages]).sum()}


@register_distiller("nl")
class NonLocalDistiller(Distiller):
    """Self-attention features of every stage, see :class:`addlib.losses.NonLocalLoss`.

    Args:
        weight: of the term.
    """

    def __init__(self, student: Detection, teacher: Detection, weight: float = 1.0):
        super().__init__()
        _check_stages(student, teacher)
        self.weight, self.loss = weight, NonLocalLoss([stage.shape[1] for stage in student.stages])

    def forward(self, student, teacher, labels, generator=None):
        return {"non_local": self.weight * self.loss(student.stages, teacher.stages)}


@register_distiller("kd")
class SoftTargetDistiller(Distiller):
    """Knowledge distillation: cross-entropy to the teacher's softened answer, Hinton, Vinyals and Dean (2015), eq. 1–2.

    Args:
        weight: of the term.
        settings: of :class:`addlib.losses.SoftTargetLoss`: the temperature.
    """

    settings_of = (SoftTargetLoss,)

    def __init__(self, student: Detection, teacher: Detection, weight: float = 1.0, **settings):
        super().__init__()
        self.weight, self.loss = weight, SoftTargetLoss(**settings)

    def forward(self, student, teacher, labels, generator=None):
        return {"soft_target": self.weight * self.loss(student.logits, teacher.logits)}


@register_distiller("add")
@register_distiller("mv", alpha=0.0)
@register_distiller("fr", beta=0.0)
class AttentionDistiller(Distiller):
    """Frequency and multi-view attention, eq. 10 of Le and Woo (AAAI 2022).

    Args:
        stage_weights_fr, stage_weights_mv: weight of every stage; those of the published code on the last four stages if None.
        settings: of :class:`addlib.losses.ADDLoss`.
    """

    settings_of = (ADDLoss,)

    def __init__(
        self, student: Detection, teacher: Detection, stage_weights_fr=None, stage_weights_mv=None, **settings
    ):
        super().__init__()
        _check_stages(student, teacher)
        published = {"stage_weights_fr": PUBLISHED_STAGE_WEIGHTS_FR, "stage_weights_mv": PUBLISHED_STAGE_WEIGHTS_MV}
        given = {"stage_weights_fr": stage_weights_fr, "stage_weights_mv": stage_weights_mv}
        count = len(student.stages)
        for name, weights in published.items():
            if given[name] is None:
                if count < len(weights):
                    raise ValueError(
                        f"the backbone has {count} stages, the published stage weights are for {len(weights)}; "
                        "give stage_weights_fr and stage_weights_mv"
                    )
                given[name] = (0.0,) * (count - len(weights)) + weights
        self.loss = ADDLoss(**given, **settings)
        self.without_frequency = ADDLoss(**given, **settings | {"alpha": 0.0})
        self.frequency_on = True

    def start_epoch(self, epoch, recipe):
        self.frequency_on = epoch >= recipe.frequency_from

    def forward(self, student, teacher, labels, generator=None):
        loss = self.loss if self.frequency_on else self.without_frequency
        terms = loss.terms(student.stages, teacher.stages, labels, generator=generator)
        found = {}
        if self.loss.alpha:
            found["frequency"] = loss.alpha * terms.frequency
        if loss.beta:
            found["multi_view"] = loss.beta * terms.multi_view
        return found


def _check_stages(student, teacher):
    shapes = [tuple(tuple(stage.shape[1:]) for stage in side.stages) for side in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"stages differ: student {shapes[0]}, teacher {shapes[1]}; stage is compared with stage, so give both the same "
            "backbone, or distil with 'fitnet' or 'kd'"
        )
