"""Recall@1: how often the nearest neighbour of an embedding is of the same class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .scoring import named

if TYPE_CHECKING:
    from torch import Tensor

ELEMENTS = 2**22  # distances held at a time, 8 bytes each


def recall_at_1(
    embeddings: Tensor, labels, reference: Tensor | None = None, reference_labels=None, **excluded
) -> float:
    """Share of samples whose nearest neighbour, Euclidean, is of their class (eq. 12 of the supplement of ADD, k = 1).

    The paper counts over test samples: leave ``reference`` out. Its code looks for neighbours among the training samples:
    give those. The nearest neighbour of a frame is nearly always another frame of the same video, of the same label by
    construction: ``exclude=videos`` forbids these, ``exclude=identities(videos)`` also the other videos of the pair.
    labels, reference_labels: (N,) and (M,), tensor or array. The rest is as for :func:`nearest_neighbours`.
    """
    nearest = nearest_neighbours(embeddings, reference, **excluded).cpu().numpy()
    labels = named("labels", labels, len(embeddings))
    others = labels if reference is None else named("reference_labels", reference_labels, len(reference))
    return float((others[nearest] == labels).mean())


def nearest_neighbours(
    embeddings: Tensor, reference: Tensor | None = None, exclude=None, reference_exclude=None
) -> Tensor:
    """Index of the nearest other embedding, or of the nearest of ``reference``, by Euclidean distance, (N,) int64.

    A sample never finds itself, but does find a duplicate of itself. Of several at the same distance, up to the rounding of
    a sum in float64, the one of the lowest index is found.
    embeddings, reference: (N, D) and (M, D), of any precision. exclude, reference_exclude: (N,) and (M,) names or numbers;
    neighbours with the same are not admissible.
    """
    import torch

    own = reference is None
    if reference is embeddings or (reference_exclude is not None) != (exclude is not None and not own):
        raise ValueError("reference is other samples, and exclude and reference_exclude go together where there is one")
    query = _matrix(embeddings)
    device = embeddings.device if isinstance(embeddings, torch.Tensor) else "cpu"
    others = query if own else _matrix(reference)
    if own:
        exclude = reference_exclude = np.arange(len(query)) if exclude is None else exclude
    elif exclude is None:
        exclude, reference_exclude = np.zeros(len(query)), np.ones(len(others))
    names = named("exclude", exclude, len(query)), named("reference_exclude", reference_exclude, len(others))
    codes = torch.from_numpy(np.unique(np.concatenate(names), return_inverse=True)[1]).to(query.device)
    groups, other_groups = codes[: len(query)], codes[-len(others) :]
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        centre = others.mean(0)  # distances do not depend on it, the rounding of products does
        near, far = query - centre, others - centre
        squares, other_squares = near.square().sum(1), far.square().sum(1)
        rounding = 4 * (query.shape[1] + 8) * torch.finfo(torch.float64).eps
        found = torch.empty(len(query), dtype=torch.int64, device=query.device)
        for part in torch.arange(len(query), device=query.device).split(max(1, ELEMENTS // len(others))):
            forbidden = groups[part, None] == other_groups
            if (alone := part[forbidden.all(1)]).numel():
                raise ValueError(f"sample {int(alone[0])} has no admissible neighbour")
            distances = torch.addmm(squares[part, None] + other_squares, near[part], far.T, alpha=-2)
            distances.masked_fill_(forbidden, torch.inf)
            # Products round; where they leave several that may be the nearest, sums of squared differences decide.
            limit = distances.amin(1) + rounding * (squares[part] + other_squares.max())
            candidates = distances <= limit[:, None]
            several = candidates.sum(1) > 1
            exact = torch.cdist(query[part[several]], others, compute_mode="donot_use_mm_for_euclid_dist")
            exact.masked_fill_(forbidden[several], torch.inf)
            candidates[several] = exact <= exact.amin(1, keepdim=True) * (1 + rounding)
            found[part] = candidates.to(torch.uint8).argmax(1)  # of several maxima, argmax returns the first
    return found.to(device)


def _matrix(values) -> Tensor:
    """A tensor or array as (N, D) float64, on the CPU where the device has none (Apple's)."""
    import torch

    values = torch.as_tensor(values).detach()
    values = (values.cpu() if values.device.type == "mps" else values).double()
    if values.ndim != 2 or not values.numel() or not values.square().sum().isfinite():
        raise ValueError(f"embeddings are {tuple(values.shape)}; expected finite numbers (N, D), below 1e150")
    return values
