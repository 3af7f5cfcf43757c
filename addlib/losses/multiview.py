"""Multi-view attention: distances of attention vectors seen from random directions, with in-batch contrastive pairs.

Equation 9 of Le and Woo, "ADD" (AAAI 2022). With v(A) the attention vectors of a map (:func:`sliced_attention`) and

    D(A, B) = mean over views k of sum over bins j of (v_k(A)[j] - v_k(B)[j])^2

the loss of a student's map S, with the teacher's T of the same image, T+ of another of its class, T- of another class, is

    gamma D(S, T) + eta [D(S, T+) + max(margin - D(S, T-), 0)]

:func:`paper_terms` is this line. D compares the mass in equal bins; it does not transport it, as
:func:`sliced_wasserstein` does. The paper sums over views, but its settings go with the mean of the published code.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ._checks import check_choice, check_maps, check_number, check_whole, received, source_of, untraced
from .slices import COORDINATES, SlicePlan, plain_attention, plan_slices, random_directions

Pairs = tuple[Tensor, Tensor]


def paper_terms(student: Tensor, teacher: Tensor, pairs: Pairs | None, gamma: float, eta: float, margin: float):
    """Yields the three terms of eq. 9 of attention vectors (B, K, bins), means over the batch."""
    yield gamma * _apart(student, teacher).mean()
    if pairs is not None:
        same, valid = _pick(teacher, pairs[0])
        yield eta * _mean_over_views(_apart(student, same), valid).mean()
        other, valid = _pick(teacher, pairs[1])
        hinge = (margin - _mean_over_views(_apart(student, other), valid)).clamp(min=0)
        yield eta * (hinge * valid.any(1)).mean()


def published_terms(student: Tensor, teacher: Tensor, pairs: Pairs | None, gamma: float, eta: float, margin: float):
    """Yields eq. 9 as the published code has it: no last bin; a pair and a hinge for every view, in both directions."""
    student, teacher = student[..., :-1], teacher[..., :-1]
    yield gamma * _apart(student, teacher).mean()
    ways = [] if pairs is None else [(student, teacher), (teacher, student)]
    for way, (anchor, partners) in enumerate(ways):
        same, valid = _pick(partners, pairs[0][:, way])
        yield eta * (_apart(anchor, same) * valid).mean()
        other, valid = _pick(partners, pairs[1][:, way])
        yield eta * ((margin - _apart(anchor, other)).clamp(min=0) * valid).mean()


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Squared differences summed over the bins, (B, K)."""
    return (first - second).square().sum(-1)


def _mean_over_views(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the views that have a pair, 0 where none has: (B,)."""
    return (values * valid).sum(1) / valid.sum(1).clamp(min=1)


def _pick(vectors: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Attention vectors (B, K, bins) of the partners ``index``, (B,) or (K, B), and whether there is one, (B, K)."""
    batch, views = vectors.shape[:2]
    index = index.expand(views, batch)
    valid, index = (index >= 0).t(), index.clamp(min=0)
    if not vectors.requires_grad:
        return vectors[index.t(), torch.arange(views, device=index.device)], valid
    # A product with ones and zeros, because the gradient of indexing adds up in no fixed order; exact in float64.
    chosen = (index[..., None] == torch.arange(batch, device=index.device)).double()
    return torch.bmm(chosen, vectors.transpose(0, 1).double()).transpose(0, 1).to(vectors.dtype), valid


@untraced
def multi_view_attention_loss(
    student: Tensor, teacher: Tensor, labels: Tensor | None, *, views: int = 12, bins: int | None = None, gamma: float = 100.0,
    eta: float = 50.0, margin: float = 0.012, directions: Tensor | None = None, pairs: Pairs | None = None,
    generator: torch.Generator | None = None, coordinates: str = "index", variant: str = "paper",
) -> Tensor:  # fmt: skip
    """Multi-view attention loss of maps (B, C, H, W), eq. 9, a scalar; a term without a partner counts as 0.

    Args:
        labels: (B,) or (B, 1), class of every image; None if ``eta`` is 0 or ``pairs`` are given.
        views, bins: numbers K of random directions and g of bins of a view, C // 2 if None, as in the paper.
        directions: (K, 3), unit rows, order (c, y, x) = dims 1, 2, 3 of the maps; drawn uniformly if None.
        pairs: ``(same, other)``, indices of T+ and T- in the batch, -1 for none, each (B,), or (K, B) with a pair for
            each view; drawn by :func:`draw_pairs` if None. (K, 2, B) for ``"published"``: T+ of S, then S+ of T.
        generator: source of directions and pairs, in this order; torch's global CPU generator if None.
        variant: ``"paper"``, or ``"published"``: mass is cut in raster order whatever the direction, the last bin is
            dropped, every view has its hinge and pairs, in both directions.
    """
    check_maps(student=student, teacher=teacher)
    gamma, eta, margin = _check_settings(gamma, eta, margin, coordinates, variant)
    published, batch, device = variant == "published", len(student), student.device
    bins = max(student.shape[1] // 2, 1) if bins is None else bins
    if published and bins == 1:
        raise ValueError("bins is 1, expected at least 2: the published variant drops the last bin")
    if directions is None:
        directions = random_directions(views, generator=generator, device=device)
    plan = plan_slices(student.shape[1:], directions, bins, coordinates, device, raster=published)
    shapes = [(len(directions), 2, batch)] if published else [(batch,), (len(directions), batch)]
    if eta and (pairs is None or labels is not None):
        labels = check_labels(labels, batch).to(device)
    if eta == 0:
        pairs = None
    elif pairs is None:
        pairs = draw_pairs(labels, shape=shapes[0][:-1], generator=generator)
    else:
        pairs = _check_pairs(pairs, shapes, batch, device)
    with torch.no_grad():
        target = plan.attention(teacher)[0]
    terms = published_terms if published else paper_terms
    terms = functools.partial(terms, teacher=target, pairs=pairs, gamma=gamma, eta=eta, margin=margin)
    return _MultiViewLoss.apply(student, plan, terms)


class MultiViewAttentionLoss(nn.Module):
    """:func:`multi_view_attention_loss` with its settings stored."""

    def __init__(
        self, views: int = 12, bins: int | None = None, gamma: float = 100.0, eta: float = 50.0, margin: float = 0.012,
        coordinates: str = "index", variant: str = "paper",
    ):  # fmt: skip
        super().__init__()
        gamma, eta, margin = _check_settings(gamma, eta, margin, coordinates, variant)
        views, bins = check_whole("views", views), bins if bins is None else check_whole("bins", bins)
        self.settings = {"views": views, "bins": bins, "gamma": gamma, "eta": eta, "margin": margin}
        self.settings |= {"coordinates": coordinates, "variant": variant}

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None, **drawn) -> Tensor:
        return multi_view_attention_loss(student, teacher, labels, **drawn, **self.settings)


class _MultiViewLoss(torch.autograd.Function):
    """The loss with its gradient by hand, and in the plain form where that gradient is to be differentiated."""

    @staticmethod
    def forward(ctx, student: Tensor, plan: SlicePlan, terms: Callable) -> Tensor:
        saved = plan.attention(student)
        ctx.plan, ctx.terms = plan, terms
        ctx.save_for_backward(student, *saved)
        return sum(terms(saved[0]))

    @staticmethod
    def backward(ctx, upstream: Tensor):
        student, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            loss = sum(ctx.terms(plain_attention(student, ctx.plan.index, ctx.plan.bins)))
            return *torch.autograd.grad(loss, student, upstream, create_graph=True), None, None
        # Derivative with respect to the attention vectors, term by term, so that only one term's temporaries are held.
        slopes, seen = torch.zeros_like(saved[0]), saved[0].detach().requires_grad_()
        with torch.enable_grad():
            for term in ctx.terms(seen):
                slopes += torch.autograd.grad(term, seen)[0]
        return ctx.plan.gradient(student, slopes, upstream, *saved), None, None


def draw_pairs(labels: Tensor, *, shape: tuple[int, ...] = (), generator: torch.Generator | None = None) -> Pairs:
    """Random indices, ``(*shape, B)``, of another sample of its class, and of one of another class; -1 where there is none."""
    labels = check_labels(labels)
    return choose_pairs(labels, draw_scores(len(labels), shape, generator).to(labels.device))


def draw_scores(batch: int, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Uniform numbers (2, ..., B, B) for T+ and for T-; float64 makes ties improbable."""
    shape = (2, *shape, batch, batch)
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=source_of(generator))


def choose_pairs(labels: Tensor, scores: Tensor) -> Pairs:
    """The allowed partner with the largest score, which is a uniform choice; -1 where none is allowed."""
    alike = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    chosen = []
    for score, allowed in zip(scores, (alike & ~itself, ~alike), strict=True):
        best, index = score.masked_fill(~allowed, -1).max(-1)
        chosen.append(index.masked_fill_(best < 0, -1))
    return chosen[0], chosen[1]


def check_labels(labels: Tensor | None, batch: int | None = None) -> Tensor:
    """Labels (B,); a single column (B, 1), as binary cross-entropy takes, is one."""
    if isinstance(labels, Tensor) and labels.shape[1:] == (1,):
        labels = labels[:, 0]
    fits = isinstance(labels, Tensor) and labels.ndim == 1 and len(labels) and batch in (None, len(labels))
    if fits and labels.is_floating_point() and labels.is_cpu and not torch.equal(labels, labels.round()):  # a GPU would wait
        raise ValueError(f"labels are {labels[:4].tolist()} …, expected whole numbers; of mixed or smoothed ones, the classes")
    if not fits:
        advice = "give labels, pairs or eta=0" if labels is None else "take .argmax(1) of one-hot labels"
        raise ValueError(f"labels are {received(labels)}, expected a tensor ({batch or 'B'},) of classes; {advice}")
    return labels


def _check_settings(gamma: float, eta: float, margin: float, coordinates: str, variant: str) -> Iterator[float]:
    check_choice("coordinates", coordinates, COORDINATES)
    check_choice("variant", variant, ("paper", "published"))
    return map(check_number, ("gamma", "eta", "margin"), (gamma, eta, margin))


def _check_pairs(pairs: Pairs, shapes: list[tuple[int, ...]], batch: int, device: torch.device) -> Pairs:
    """Pairs on the device; the values are read on a CPU only: a GPU would wait."""
    same, other = pairs
    for name, index in (("same", same), ("other", other)):
        fits = isinstance(index, Tensor) and tuple(index.shape) in shapes and index.dtype in (torch.int32, torch.int64)
        if not fits or (index.is_cpu and not -1 <= int(index.min()) <= int(index.max()) < batch):
            raise ValueError(f"pairs: {name} is {received(index)}, expected integers {shapes} from -1 to {batch - 1}")
    return same.to(device, torch.int64), other.to(device, torch.int64)
