"""The losses between student and teacher, by name, and how to add one."""

import inspect
from collections.abc import Callable
from operator import attrgetter

import torch
from torch import Generator, Tensor, nn

from addlib import losses
from addlib.detectors import Detection, same_place
from addlib.losses._checks import check_number

# Name → what builds it, (student, teacher, **settings) -> Distiller, what the name fixes, and the defaults of the rest.
DISTILLERS: dict[str, tuple[Callable, dict, dict]] = {"none": (lambda student, teacher: None, {}, {})}


class Distiller(nn.Module):
    """A loss between student and teacher; its parameters, if it has any, are trained with the student."""

    def start_epoch(self, epoch: int, recipe) -> None:
        """Called before each epoch, counted from 0."""

    def forward(self, student: Detection, teacher: Detection, labels: Tensor, generator: Generator | None = None):
        """Terms of the loss for one batch, its answers and labels (B,): a dict of scalars by name, each already weighted.

        The names "cross_entropy" and "loss" are taken. Whatever the loss draws comes from ``generator``, on the CPU; the
        teacher's answer carries no gradient.
        """
        raise NotImplementedError


def register_distiller(name: str, loss: type | None = None, **fixed) -> Callable:
    """Decorator that adds a distiller under a name, which ``fit_student`` and grids then take.

    It decorates a :class:`Distiller`, or a function that returns one, whose first two arguments are the answers of student
    and teacher to one batch. Its other arguments are its settings; ``loss`` is a class to which it hands further ones on, and
    ``fixed`` are settings that the name fixes. Raises ValueError if the name is taken.
    """

    def add(build):
        if name in DISTILLERS and not same_place(DISTILLERS[name][0], build):
            raise ValueError(f"there is a distiller {name!r} already; take another name")
        parameters = [p for each in (build, loss) if each for p in inspect.signature(each).parameters.values()]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in fixed}
        DISTILLERS[name] = build, fixed, defaults
        return build

    return add


def create_distiller(name: str, student: Detection, teacher: Detection, **settings) -> Distiller | None:
    """A distiller by name, fitted to what both networks answer to one batch; None for "none".

    Raises ValueError for a name or setting that does not exist, and for maps that do not fit.
    """
    defaults = distiller_defaults(name)
    if unknown := sorted(settings.keys() - defaults.keys()):
        raise ValueError(f"distiller {name!r} has no {unknown}; it has {sorted(defaults)}")
    build, fixed, _ = DISTILLERS[name]
    made = build(student, teacher, **fixed, **settings)
    if not isinstance(made, Distiller | None):
        raise ValueError(f"distiller {name!r} builds a {type(made).__name__}, expected a Distiller")
    return made


def distiller_defaults(name: str, student: nn.Module | None = None) -> dict:
    """The settings that a distiller has, with their defaults; those that the student's backbone needs changed as it has them."""
    if name not in DISTILLERS:
        raise ValueError(f"unknown distiller {name!r}; there are {list(DISTILLERS)}; one of your own: a plugin registers it")
    defaults = dict(DISTILLERS[name][2])
    return defaults | {key: value for key, value in getattr(student, "loss_defaults", {}).items() if key in defaults}


def changed_settings(name: str, settings: dict, student: nn.Module) -> dict:
    """The settings that are no defaults for this student: those by which a training is known."""
    usual = distiller_defaults(name, student)
    return {key: value for key, value in settings.items() if key not in usual or usual[key] != value}


class Baseline(Distiller):
    """One term: ``weight`` times ``loss`` of what is ``compared`` of both answers, or the sum over ``each`` part of it."""

    def __init__(self, term: str, weight: float, loss: nn.Module, compared: str, each: bool = False):
        super().__init__()
        self.term, self.weight = term, check_number("weight", weight)
        self.loss, self.compared, self.each = loss, attrgetter(compared), each

    def forward(self, student, teacher, labels, generator=None):
        sides = self.compared(student), self.compared(teacher)
        pairs = zip(*sides, strict=True) if self.each else [sides]
        return {self.term: self.weight * torch.stack([self.loss(*pair) for pair in pairs]).sum()}


@register_distiller("fitnet")
def hint(student: Detection, teacher: Detection, weight: float = 1.0, variant: str = "published") -> Distiller:
    """:class:`addlib.losses.HintLoss` on the embedding, in the form with which the paper's table was made."""
    widths = (answer.embedding.shape[1] for answer in (student, teacher))
    return Baseline("hint", weight, losses.HintLoss(*widths, variant), "embedding")


@register_distiller("at")
def attention_transfer(student: Detection, teacher: Detection, weight: float = 1000.0) -> Distiller:
    """Summed over the stages; 1000 is the weight of Zagoruyko and Komodakis (ICLR 2017) for the mean of squares."""
    _check_stages(student, teacher)
    return Baseline("attention", weight, losses.AttentionTransferLoss(), "stages", each=True)


@register_distiller("nl")
def non_local(student: Detection, teacher: Detection, weight: float = 1.0) -> Distiller:
    """Self-attention features of every stage, see :class:`addlib.losses.NonLocalLoss`."""
    _check_stages(student, teacher)
    return Baseline("non_local", weight, losses.NonLocalLoss([stage.shape[1] for stage in student.stages]), "stages")


@register_distiller("kd", losses.SoftTargetLoss)
def soft_target(student: Detection, teacher: Detection, weight: float = 1.0, **settings) -> Distiller:
    """Cross-entropy to the teacher's softened answer: Hinton, Vinyals and Dean (2015), eq. 1–2."""
    return Baseline("soft_target", weight, losses.SoftTargetLoss(**settings), "logits")


@register_distiller("add", losses.ADDLoss)
@register_distiller("mv", losses.ADDLoss, alpha=0.0)
@register_distiller("fr", losses.ADDLoss, beta=0.0)
class AttentionDistiller(Distiller):
    """Frequency and multi-view attention, eq. 10 of Le and Woo (AAAI 2022), see :class:`addlib.losses.ADDLoss`.

    The weights of the stages are those of the published code on the last four, unless others are given.
    """

    def __init__(self, student, teacher, stage_weights_fr=None, stage_weights_mv=None, **settings):
        super().__init__()
        _check_stages(student, teacher)
        published = losses.PUBLISHED_STAGE_WEIGHTS_FR, losses.PUBLISHED_STAGE_WEIGHTS_MV
        count, shallow = len(student.stages), len(student.stages) - len(published[0])
        if shallow < 0 and None in (stage_weights_fr, stage_weights_mv):
            raise ValueError(f"no stage weights are published for {count} stages; give stage_weights_fr and _mv")
        given = zip((stage_weights_fr, stage_weights_mv), published, strict=True)
        weights = [(0.0,) * shallow + usual if own is None else own for own, usual in given]
        self.loss = losses.ADDLoss(*weights, **settings)
        self.alpha = self.loss.alpha

    def start_epoch(self, epoch, recipe):
        self.loss.alpha = self.alpha if epoch >= recipe.frequency_from else 0.0

    def forward(self, student, teacher, labels, generator=None):
        terms = self.loss.terms(student.stages, teacher.stages, labels, generator=generator)
        found = {"frequency": self.loss.alpha * terms.frequency} if self.alpha else {}
        return found | ({"multi_view": self.loss.beta * terms.multi_view} if self.loss.beta else {})


def _check_stages(student: Detection, teacher: Detection) -> None:
    shapes = [[tuple(stage.shape[1:]) for stage in side.stages] for side in (student, teacher)]
    if shapes[0] != shapes[1]:
        remedy = "stage is compared with stage, so give both the same backbone, or distil with 'fitnet' or 'kd'"
        raise ValueError(f"stages differ: student {shapes[0]}, teacher {shapes[1]}; {remedy}")
