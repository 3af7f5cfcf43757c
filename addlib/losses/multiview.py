"""Multi-view attention: distances of attention vectors seen from random directions, with in-batch contrastive pairs.

Equation 9 and algorithm 1 of Le and Woo, "ADD" (AAAI 2022). With v(A) the attention vectors of a map
(:func:`addlib.losses.sliced_attention`) and

    D(A, B) = mean over views k of sum over bins j of (v_k(A)[j] - v_k(B)[j])^2

the loss of a student's map S against the teacher's map T of the same image, T+ of another image of the same class and
T- of an image of another class is

    gamma D(S, T) + eta [D(S, T+) + max(margin - D(S, T-), 0)]

:func:`paper_terms` is this line. D is what the paper calls SWD with quadratic cost. It compares the mass in equal bins,
it does not transport it; the true sliced Wasserstein distance is :func:`addlib.losses.sliced_wasserstein`. The paper
writes a sum over views; its gamma, eta and margin go with the mean, which the published code takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from addlib.losses._checks import (
    check_choice,
    check_number,
    check_pair,
    full_precision,
    untraced,
    wants_gradient,
    working_dtype,
)
from addlib.losses.slices import (
    COORDINATES,
    SlicePlan,
    attention_gradient,
    attention_vectors,
    check_bins,
    check_directions,
    plain_attention,
    plan_slices,
    random_directions,
)

VARIANTS = ("paper", "published")

Pairs = tuple[Tensor, Tensor]


def paper_terms(
    student: Tensor, teacher: Tensor, pairs: Pairs | None, gamma: float, eta: float, margin: float
) -> Iterator[Tensor]:
    """The three terms of eq. 9 of attention vectors (B, K, bins), means over the batch."""
    yield gamma * _distance(student, teacher).mean()
    if pairs is None:
        return
    same, other = pairs
    partner, valid = _pick(teacher, same)
    yield eta * _mean_over_views(_distance(student, partner), valid).mean()
    partner, valid = _pick(teacher, other)
    hinge = (margin - _mean_over_views(_distance(student, partner), valid)).clamp(min=0)
    yield eta * (hinge * valid.any(1)).mean()


def published_terms(
    student: Tensor, teacher: Tensor, pairs: Pairs | None, gamma: float, eta: float, margin: float
) -> Iterator[Tensor]:
    """Eq. 9 as the published code has it: no last bin; a pair and a hinge for every view, in both directions."""
    student, teacher = student[..., :-1], teacher[..., :-1]
    yield gamma * _distance(student, teacher).mean()
    if pairs is None:
        return
    same, other = pairs
    for way, (anchor, others) in enumerate([(student, teacher), (teacher, student)]):
        partner, valid = _pick(others, same[:, way])
        yield eta * (_distance(anchor, partner) * valid).mean()
        partner, valid = _pick(others, other[:, way])
        yield eta * ((margin - _distance(anchor, partner)).clamp(min=0) * valid).mean()


@untraced
def multi_view_attention_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None,
    *,
    views: int = 12,
    bins: int | None = None,
    gamma: float = 100.0,
    eta: float = 50.0,
    margin: float = 0.012,
    directions: Tensor | None = None,
    pairs: Pairs | None = None,
    generator: torch.Generator | None = None,
    coordinates: str = "index",
    variant: str = "paper",
) -> Tensor:
    """Multi-view attention loss, eq. 9 of the paper; mean over views, mean over the batch.

    Args:
        student, teacher: maps (B, C, H, W), floating point, of one shape. The teacher receives no gradient.
        labels: (B,) or (B, 1), class of every image; may be None if no pairs have to be drawn (``eta=0``, or ``pairs``
            given).
        views: number K of random directions; ignored if ``directions`` is given. 12 in the published code.
        bins: number g of bins of a view; the default is C // 2, as in the paper.
        gamma, eta, margin: gamma_MV, eta_MV and Delta, all at least 0.
        directions: (K, 3), unit rows, order (c, y, x) = dims 1, 2, 3 of the maps; drawn uniformly if None.
        pairs: ``(same, other)``, indices into the batch of the teacher's maps T+ and T- of every sample, each (B,), or
            (K, B) with a pair for each view. -1 leaves the term of that sample out. Drawn by :func:`draw_pairs` if
            None. For ``variant="published"``: (K, 2, B), first the teacher's map for each student's, then the
            student's map for each teacher's.
        generator: source of the directions and pairs that are drawn, in this order; torch's global CPU generator if
            None.
        coordinates: ``"index"`` (raw indices, as published; the channels then span most of nearly every view) or
            ``"unit"`` (every axis scaled to [0, 1]).
        variant: ``"paper"``, or ``"published"`` for the numbers of the published code, for comparison only: mass is
            cut in raster order whatever the direction, the last of the g bins is dropped, the hinge is taken of every
            view instead of their mean, and the contrastive terms are added up over both directions (student against
            teacher's pairs, teacher against student's pairs).

    Returns:
        Scalar, float32 (float64 if an input is).

    A sample without another image of its class in the batch has no T+, one without an image of another class no T-:
    that term of the sample is left out (counts as 0 in the mean). So a one-class batch is no error.

    Finite for every finite input; scaling a map changes nothing (above a peak of 1e-12). Computed in float32 or
    better, also under autocast, without atomic additions: the same inputs give the same bits.

    Raises:
        ValueError: maps differ or are not (B, C, H, W); labels, pairs or directions do not fit; a number is out of
            range; ``coordinates`` or ``variant`` is unknown.
    """
    check_pair(student, teacher)
    check_choice("variant", variant, VARIANTS)
    check_choice("coordinates", coordinates, COORDINATES)
    settings = {
        "bins": bins,
        "gamma": check_number("gamma", gamma),
        "eta": check_number("eta", eta),
        "margin": check_number("margin", margin),
        "coordinates": coordinates,
        "variant": variant,
    }
    if directions is not None:
        directions = check_directions(directions)
        views = len(directions)
    if settings["eta"] == 0:
        labels = pairs = None
    elif pairs is not None:
        labels, pairs = None, _check_pairs(pairs, len(student), views, variant, student.device)
    else:
        labels = check_labels(labels, len(student))
    if directions is None:
        ((directions, drawn),) = draw_views(labels, 1, views, variant, generator, student.device)
        pairs = drawn or pairs
    elif labels is not None:
        shape = () if variant == "paper" else (views, 2)
        pairs = draw_pairs(labels.to(student.device), shape=shape, generator=generator)
    return loss_of_draw(student, teacher, Draw(directions, pairs), **settings)


class MultiViewAttentionLoss(nn.Module):
    """:func:`multi_view_attention_loss` with its settings stored; ``forward`` takes what changes from batch to batch."""

    def __init__(
        self,
        views: int = 12,
        bins: int | None = None,
        gamma: float = 100.0,
        eta: float = 50.0,
        margin: float = 0.012,
        coordinates: str = "index",
        variant: str = "paper",
    ) -> None:
        super().__init__()
        check_choice("coordinates", coordinates, COORDINATES)
        check_choice("variant", variant, VARIANTS)
        self.settings = {
            "views": views,
            "bins": bins,
            "gamma": check_number("gamma", gamma),
            "eta": check_number("eta", eta),
            "margin": check_number("margin", margin),
            "coordinates": coordinates,
            "variant": variant,
        }

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None,
        *,
        directions: Tensor | None = None,
        pairs: Pairs | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return multi_view_attention_loss(
            student, teacher, labels, directions=directions, pairs=pairs, generator=generator, **self.settings
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class Draw(NamedTuple):
    """What chance decides about one stage in one step: directions (K, 3) and ``(same, other)``, or None for no pairs."""

    directions: Tensor
    pairs: Pairs | None


def draw_views(
    labels: Tensor | None,
    stages: int,
    views: int,
    variant: str = "paper",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> list[Draw]:
    """Directions and, unless ``labels`` (B,) is None, pairs for several stages, sent to the device in one copy."""
    source = generator.device if generator is not None else torch.device("cpu")
    drawn = []
    for _ in range(stages):
        drawn.append(random_directions(views, generator=generator, device=source))
        if labels is not None:
            drawn += _draw_scores(len(labels), () if variant == "paper" else (views, 2), generator)
    if source != torch.device(device):
        flat = torch.cat([tensor.flatten() for tensor in drawn])
        flat = (flat.pin_memory() if torch.device(device).type == "cuda" else flat).to(device, non_blocking=True)
        parts = flat.split([tensor.numel() for tensor in drawn])
        drawn = [part.view_as(tensor) for part, tensor in zip(parts, drawn, strict=True)]
    if labels is None:
        return [Draw(directions, None) for directions in drawn]
    labels = labels.to(device)
    return [Draw(drawn[i], _choose_pairs(labels, drawn[i + 1 : i + 3])) for i in range(0, len(drawn), 3)]


def draw_pairs(labels: Tensor, *, shape: tuple[int, ...] = (), generator: torch.Generator | None = None) -> Pairs:
    """Random partners inside a batch.

    Args:
        labels: (B,) or (B, 1), class of every sample.
        shape: leading shape of the result, for example (K,) to draw anew for every view.
        generator: source of randomness; torch's global CPU generator if None.

    Returns:
        ``(same, other)``, each int64 (..., B), led by ``shape``, on the device of ``labels``: uniformly drawn indices
        of another sample of the same class, and of a sample of any other class; -1 where there is none.

    Raises:
        ValueError: labels are neither (B,) nor (B, 1).
    """
    labels = check_labels(labels, len(labels))
    return _choose_pairs(labels, _draw_scores(len(labels), shape, generator))


def loss_of_draw(
    student: Tensor,
    teacher: Tensor,
    draw: Draw,
    *,
    bins: int | None,
    gamma: float,
    eta: float,
    margin: float,
    coordinates: str,
    variant: str,
) -> Tensor:
    """:func:`multi_view_attention_loss` of directions and pairs that need no checks."""
    published = variant == "published"
    bins = max(student.shape[1] // 2, 1) if bins is None else bins
    check_bins(bins, 2 if published else 1)
    terms = functools.partial(
        published_terms if published else paper_terms, pairs=draw.pairs, gamma=gamma, eta=eta, margin=margin
    )
    plan = plan_slices(student.shape[1:], draw.directions, bins, coordinates, student.device, raster=published)
    with full_precision(student):
        with torch.no_grad():
            target = attention_vectors(teacher.detach(), plan)[0]
        if wants_gradient(student):
            return _MultiViewLoss.apply(student, target, plan, terms)
        return sum(terms(attention_vectors(student.detach(), plan)[0], target))


class _MultiViewLoss(torch.autograd.Function):
    """The loss with its gradient by hand, and in the plain form where that gradient is to be differentiated."""

    @staticmethod
    def forward(ctx, student: Tensor, target: Tensor, plan: SlicePlan, terms: Callable) -> Tensor:
        attention, peak, total = attention_vectors(student, plan)
        loss, slopes = 0, torch.zeros_like(attention)
        with torch.enable_grad():
            attention.requires_grad_()
            for term in terms(attention, target):  # one by one: of each, only the slopes are kept
                slopes += torch.autograd.grad(term, attention)[0]
                loss = loss + term.detach()
        ctx.terms, ctx.bins = terms, plan.bins
        ctx.save_for_backward(student, target, plan.index, slopes, attention.detach(), peak, total)
        return loss

    @staticmethod
    def backward(ctx, upstream: Tensor):
        student, target, index, slopes, *found = ctx.saved_tensors
        with full_precision(student):
            if torch.is_grad_enabled():
                loss = sum(ctx.terms(plain_attention(student, index, ctx.bins), target))
                (gradient,) = torch.autograd.grad(loss, student, upstream, create_graph=True)
            else:
                gradient = attention_gradient(student, index, slopes, *found, upstream)
        return gradient, None, None, None


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared differences summed over the bins, (B, K)."""
    return (first - second).square().sum(-1)


def _mean_over_views(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the views that have a pair, 0 where none has: (B,)."""
    return (values * valid).sum(1) / valid.sum(1).clamp(min=1)


def _pick(vectors: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Attention vectors (B, K, bins) of the partners ``index``, (B,) or (K, B), and whether there is one, (B, K)."""
    batch, views = vectors.shape[:2]
    index = index.expand(views, batch)
    valid = (index >= 0).t()
    index = index.clamp(min=0)
    if vectors.requires_grad:
        # As a product with a matrix of ones and zeros, because the gradient of indexing adds up in no fixed order. In
        # float64, where the product is exact under every precision setting.
        chosen = (index[..., None] == torch.arange(batch, device=index.device)).double()
        picked = torch.bmm(chosen, vectors.transpose(0, 1).double()).transpose(0, 1).to(vectors.dtype)
    else:
        picked = vectors[index.t(), torch.arange(views, device=index.device)]
    return picked, valid


def _draw_scores(batch: int, shape: tuple[int, ...], generator: torch.Generator | None) -> list[Tensor]:
    """Independent uniform numbers (..., B, B) for the choice of T+ and of T-; float64 makes ties improbable."""
    source = generator.device if generator is not None else "cpu"
    return [
        torch.rand(*shape, batch, batch, generator=generator, dtype=torch.float64, device=source) for _ in range(2)
    ]


def _choose_pairs(labels: Tensor, scores: list[Tensor]) -> Pairs:
    """The allowed partner with the largest score, which is a uniform choice; -1 where none is allowed."""
    alike = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    chosen = []
    for score, allowed in zip(scores, (alike & ~itself, ~alike), strict=True):
        best, index = score.to(labels.device).masked_fill_(~allowed, -1).max(-1)
        chosen.append(index.masked_fill_(best < 0, -1))
    return chosen[0], chosen[1]


def check_labels(labels: Tensor | None, batch: int) -> Tensor:
    """Labels (B,); a single column (B, 1), as binary cross-entropy takes, is one."""
    if labels is None:
        raise ValueError("labels are None, expected (B,) classes to draw pairs from; give labels, pairs or eta=0")
    if isinstance(labels, Tensor) and labels.shape == (batch, 1):
        return labels[:, 0]
    if not isinstance(labels, Tensor) or labels.shape != (batch,):
        received = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"labels are {received}, expected a tensor ({batch},), one class for each map; "
            "take .argmax(1) of one-hot labels"
        )
    return labels


def _check_pairs(pairs: Pairs, batch: int, views: int, variant: str, device: torch.device) -> Pairs:
    shapes = [(batch,), (views, batch)] if variant == "paper" else [(views, 2, batch)]
    expected = " or ".join(map(str, shapes))
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ValueError(f"pairs are a {type(pairs).__name__}, expected (same, other), two tensors of shape {expected}")
    for name, index in zip(("same", "other"), pairs, strict=True):
        if not isinstance(index, Tensor) or index.is_floating_point() or index.dtype == torch.bool:
            kind = index.dtype if isinstance(index, Tensor) else type(index).__name__
            raise ValueError(f"pairs: {name} is {kind}, expected integer indices into the batch")
        if tuple(index.shape) not in shapes:
            raise ValueError(
                f"pairs: {name} has shape {tuple(index.shape)}, expected {expected} for variant={variant!r}"
            )
        low, high = int(index.min()), int(index.max())
        if low < -1 or high >= batch:
            raise ValueError(
                f"pairs: {name} holds {low} to {high}, expected indices from 0 to {batch - 1}, or -1 for no partner"
            )
    same, other = (index.to(device, torch.int64) for index in pairs)
    return same, other
