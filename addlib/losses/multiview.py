"""Multi-view attention: distances of attention vectors seen from random directions, with in-batch contrastive pairs.

Equation 9 and algorithm 1 of Le and Woo, "ADD" (AAAI 2022). With v(A) the attention vectors of a map
(:func:`addlib.losses.sliced_attention`) and

    D(A, B) = mean over views k of sum over bins j of (v_k(A)[j] - v_k(B)[j])^2

the loss of a student's map S against the teacher's map T of the same image, T+ of another image of the same class and
T- of an image of another class is

    gamma D(S, T) + eta [D(S, T+) + max(margin - D(S, T-), 0)]

D is what the paper calls SWD with quadratic cost. It compares the mass in equal bins, it does not transport it; the
true sliced Wasserstein distance is :func:`addlib.losses.sliced_wasserstein`. The paper writes a sum over views; its
gamma, eta and margin go with the mean, which the published code takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from addlib.losses._maps import ScalarLoss, check_choice, check_number, check_pair, working_dtype
from addlib.losses.sliced import (
    COORDINATES,
    attention_gradient,
    attention_vectors,
    plain_attention,
    plan_raster,
    plan_slices,
    random_directions,
)

VARIANTS = ("paper", "published")

Pairs = tuple[Tensor, Tensor]


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
        labels: (B,), class of every image; may be None if no pairs have to be drawn (``eta=0``, or ``pairs`` given).
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
    batch, channels = student.shape[:2]
    bins = max(channels // 2, 1) if bins is None else bins
    if variant == "published" and bins < 2:
        raise ValueError(f"bins is {bins}, expected at least 2: the published variant drops the last bin")
    if directions is None:
        directions = random_directions(views, generator=generator)
    plan = plan_slices if variant == "paper" else plan_raster
    plan = plan(student.shape[1:], directions, bins, coordinates, student.device)
    eta = check_number("eta", eta)
    if eta == 0:
        pairs = None
    elif pairs is not None:
        pairs = _check_pairs(pairs, batch, len(directions), variant, student.device)
    else:
        if labels is None:
            raise ValueError("labels are None, expected (B,) classes to draw pairs from; give labels, pairs or eta=0")
        shape = () if variant == "paper" else (len(directions), 2)
        pairs = draw_pairs(_check_labels(labels, batch, student.device), shape=shape, generator=generator)
    terms = _paper_terms if variant == "paper" else _published_terms
    form = _MultiViewForm(
        plan, pairs, check_number("gamma", gamma), eta, check_number("margin", margin), terms, variant == "published"
    )
    return ScalarLoss.apply(student, teacher.detach(), form)


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


def draw_pairs(labels: Tensor, *, shape: tuple[int, ...] = (), generator: torch.Generator | None = None) -> Pairs:
    """Random partners inside a batch.

    Args:
        labels: (B,), class of every sample.
        shape: leading shape of the result, for example (K,) to draw anew for every view.
        generator: source of randomness; torch's global CPU generator if None.

    Returns:
        ``(same, other)``, each int64 (..., B), led by ``shape``, on the device of ``labels``: uniformly drawn indices of another
        sample of the same class, and of a sample of any other class; -1 where there is none.
    """
    batch = len(labels)
    source = generator.device if generator is not None else "cpu"
    alike = labels[:, None] == labels
    itself = torch.eye(batch, dtype=torch.bool, device=labels.device)
    drawn = []
    for allowed in (alike & ~itself, ~alike):
        # The largest of independent uniform numbers is a uniform choice; float64 makes ties improbable.
        score = torch.rand(*shape, batch, batch, generator=generator, dtype=torch.float64, device=source)
        best, index = score.to(labels.device).masked_fill_(~allowed, -1).max(-1)
        drawn.append(index.masked_fill_(best < 0, -1))
    return drawn[0], drawn[1]


class _MultiViewForm:
    """Value, gradient and differentiable form of the loss; see :class:`addlib.losses._maps.ScalarLoss`."""

    def __init__(self, plan, pairs, gamma, eta, margin, terms, drop_last) -> None:
        self.plan, self.pairs, self.terms, self.drop_last = plan, pairs, terms, drop_last
        self.settings = (gamma, eta, margin)

    def value(self, student: Tensor, teacher: Tensor) -> Tensor:
        attention, self.peak, self.total = attention_vectors(student, self.plan)
        target = attention_vectors(teacher, self.plan)[0]
        loss, self.slopes = 0, torch.zeros_like(attention)
        with torch.enable_grad():
            attention.requires_grad_()
            for term in self._terms(attention, target):  # one by one: of each, only the slopes are kept
                self.slopes += torch.autograd.grad(term, attention)[0]
                loss = loss + term.detach()
        self.attention = attention.detach()
        return loss.to(working_dtype(student, teacher))

    def gradient(self, student: Tensor, teacher: Tensor, upstream: Tensor) -> Tensor:
        return attention_gradient(student, self.plan, self.slopes, self.attention, self.peak, self.total, upstream)

    def plain(self, student: Tensor, teacher: Tensor) -> Tensor:
        return sum(self._terms(plain_attention(student, self.plan), plain_attention(teacher, self.plan)))

    def _terms(self, student: Tensor, teacher: Tensor) -> Iterator[Tensor]:
        if self.drop_last:
            student, teacher = student[..., :-1], teacher[..., :-1]
        return self.terms(student, teacher, self.pairs, *self.settings)


def _paper_terms(
    student: Tensor, teacher: Tensor, pairs: Pairs | None, gamma: float, eta: float, margin: float
) -> Iterator[Tensor]:
    """The terms of eq. 9 of attention vectors (B, K, bins), one by one, means over the batch."""
    yield gamma * _SquaredDistance.apply(student, teacher).mean()
    if pairs is None:
        return
    same, other = pairs
    apart, valid = _apart(student, teacher, same)
    yield eta * _mean_over_views(apart, valid).mean()
    apart, valid = _apart(student, teacher, other)
    hinge = (margin - _mean_over_views(apart, valid)).clamp(min=0)
    yield eta * (hinge * valid.any(1)).mean()


def _published_terms(
    student: Tensor, teacher: Tensor, pairs: Pairs | None, gamma: float, eta: float, margin: float
) -> Iterator[Tensor]:
    """Eq. 9 as the published code has it: a pair and a hinge for every view, in both directions."""
    yield gamma * _SquaredDistance.apply(student, teacher).mean()
    if pairs is None:
        return
    same, other = pairs
    for way, (anchor, partner) in enumerate([(student, teacher), (teacher, student)]):
        apart, valid = _apart(anchor, partner, same[:, way])
        yield eta * (apart * valid).mean()
        apart, valid = _apart(anchor, partner, other[:, way])
        yield eta * ((margin - apart).clamp(min=0) * valid).mean()


def _apart(anchor: Tensor, partners: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (B, K) of every sample and its partner, and whether it has one."""
    partner, valid = _pick(partners, index)
    return _SquaredDistance.apply(anchor, partner), valid


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
        chosen = nn.functional.one_hot(index, batch).double()
        picked = torch.bmm(chosen, vectors.transpose(0, 1).double()).transpose(0, 1).to(vectors.dtype)
    else:
        picked = vectors[index.t(), torch.arange(views, device=index.device)]
    return picked, valid


class _SquaredDistance(torch.autograd.Function):
    """Sum over the last axis of (first - second)^2, saving its arguments only."""

    @staticmethod
    def forward(ctx, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return torch.sub(first, second).square_().sum(-1)

    @staticmethod
    def backward(ctx, upstream: Tensor):
        first, second = ctx.saved_tensors
        slope = (first - second) * (2 * upstream).unsqueeze(-1)
        return slope, -slope if ctx.needs_input_grad[1] else None


def _check_labels(labels: Tensor, batch: int, device: torch.device) -> Tensor:
    if not isinstance(labels, Tensor) or labels.shape != (batch,):
        received = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"labels are {received}, expected a tensor ({batch},), one class for each map; "
            "take .argmax(1) of one-hot labels"
        )
    return labels.to(device)


def _check_pairs(pairs: Pairs, batch: int, views: int, variant: str, device: torch.device) -> Pairs:
    shapes = [(batch,), (views, batch)] if variant == "paper" else [(views, 2, batch)]
    expected = " or ".join(map(str, shapes))
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ValueError(f"pairs are a {type(pairs).__name__}, expected (same, other), two tensors of shape {expected}")
    checked = []
    for name, index in zip(("same", "other"), pairs, strict=True):
        if not isinstance(index, Tensor) or index.is_floating_point() or index.dtype == torch.bool:
            kind = index.dtype if isinstance(index, Tensor) else type(index).__name__
            raise ValueError(f"pairs: {name} is {kind}, expected integer indices into the batch")
        if tuple(index.shape) not in shapes:
            raise ValueError(
                f"pairs: {name} has shape {tuple(index.shape)}, expected {expected} for variant={variant!r}"
            )
        if int(index.min()) < -1 or int(index.max()) >= batch:
            raise ValueError(
                f"pairs: {name} holds {int(index.min())} to {int(index.max())}, expected indices from 0 to {batch - 1}, "
                "or -1 for no partner"
            )
        checked.append(index.to(device, torch.int64))
    return checked[0], checked[1]
