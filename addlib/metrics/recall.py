"""Recall@1: how often the nearest neighbour of an embedding is of the same class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from addlib.metrics._inputs import check_count, check_names, to_array

# Numbers in the largest intermediate, at 8 bytes each; the memory does not grow with the number of samples.
ELEMENTS = 2**22


def recall_at_1(
    embeddings: Tensor,
    labels,
    reference: Tensor | None = None,
    reference_labels=None,
    *,
    exclude=None,
    reference_exclude=None,
    block: int | None = None,
) -> float:
    """Share of samples whose nearest neighbour, Euclidean, is of their class (eq. 12 of the supplement of ADD, k = 1).

    The paper counts over test samples and names no other set for the neighbours: leave ``reference`` out. The published
    code looks for them among the training samples: give those.

    The paper does not say that it excludes anything but the sample itself. The nearest neighbour of a frame is then
    nearly always another frame of the same video, which has the same label by construction, so that the figure says
    little about the classes. ``exclude=videos`` forbids neighbours of the same video; ``exclude=identities(videos)``
    also those of the real video that a fake was made from, and of the other fakes of the pair. Between the two lies a
    trap: without its own video, the nearest frame to a fake may be its own original, of the other label. Say which of
    the three a table shows.

    Args:
        embeddings: (N, D), floating point; float16 and bfloat16 too.
        labels: (N,) integers, tensor or array.
        reference, reference_labels: (M, D) and (M,), where the neighbours are to be among other samples.
        exclude: (N,) names or numbers; neighbours with the same are not admissible.
        reference_exclude: (M,), likewise, needed where ``reference`` and ``exclude`` are given.
        block: samples whose distances to all others are held at a time. By default as many as make ``ELEMENTS``.

    Returns:
        In [0, 1]. Chance is 0.5 for two classes of equal size.

    Raises:
        ValueError: as :func:`nearest_neighbours`, or labels do not fit.
    """
    if (reference is None) != (reference_labels is None):
        raise ValueError("reference and reference_labels go together; expected both or neither")
    nearest = nearest_neighbours(
        embeddings, reference, exclude=exclude, reference_exclude=reference_exclude, block=block
    )
    labels = _labels("labels", labels, len(embeddings))
    others = labels if reference is None else _labels("reference_labels", reference_labels, len(reference))
    return float((others[nearest.cpu().numpy()] == labels).mean())


@torch.no_grad()
def nearest_neighbours(
    embeddings: Tensor,
    reference: Tensor | None = None,
    *,
    exclude=None,
    reference_exclude=None,
    block: int | None = None,
) -> Tensor:
    """Index of the nearest other embedding, or of the nearest of ``reference``, by Euclidean distance.

    Arguments as :func:`recall_at_1`. Without ``reference`` a sample never finds itself, but does find a duplicate of
    itself. Of several at the same distance the one of the lowest index is found.

    The result is exact: that of sums of squared differences in float64, where distances within the rounding of such a
    sum count as the same; neither ``block`` nor the device changes it. Matrix products in float64 of the centred
    embeddings say, with a bound on their rounding error, which neighbours may be the nearest; where there are several,
    their differences decide.

    Time grows with N M D, memory does not grow with N or M beyond the inputs and a few numbers a sample. A device
    that has no float64 (Apple's) leaves the work to the CPU.

    Returns:
        (N,) int64, on the device of ``embeddings``.

    Raises:
        ValueError: not matrices of floating-point numbers of one width and device, empty, not finite (or beyond 1e150),
            ``reference`` is ``embeddings`` itself, groups do not fit, or a sample has no admissible neighbour.
    """
    _check_matrix("embeddings", embeddings)
    if reference is None:
        others = embeddings
    else:
        _check_matrix("reference", reference)
        if reference is embeddings:
            raise ValueError("reference is embeddings: each sample would find itself; leave reference out")
        if reference.shape[1] != embeddings.shape[1]:
            raise ValueError(
                f"embeddings are {tuple(embeddings.shape)} and reference {tuple(reference.shape)}; expected one width D"
            )
        if reference.device != embeddings.device:
            raise ValueError(f"embeddings are on {embeddings.device}, reference on {reference.device}; move one")
        others = reference
    device = embeddings.device
    if device.type == "mps":
        embeddings, others = embeddings.cpu(), others.cpu()
    groups, other_groups = (
        None if codes is None else codes.to(embeddings.device)
        for codes in _codes(exclude, reference_exclude, len(embeddings), None if reference is None else len(reference))
    )
    rows = max(1, ELEMENTS // len(others)) if block is None else check_count("block", block)

    centre = _centre(others)
    squares = torch.cat([tile.square().sum(1) for _, tile in _tiles(others, centre)])
    if not squares.isfinite().all():
        raise ValueError(_NOT_FINITE.format("embeddings" if reference is None else "reference"))
    found = torch.empty(len(embeddings), dtype=torch.int64, device=embeddings.device)
    for start in range(0, len(embeddings), rows):
        query = embeddings[start : start + rows]
        here = torch.arange(start, start + len(query), device=query.device)
        distances = _distances(query, others, centre, squares)
        if reference is None:
            distances[here - start, here] = torch.inf
        if groups is not None:
            distances.masked_fill_(groups[here, None] == other_groups, torch.inf)
        candidates = _candidates(distances, query, centre, squares)
        lonely = ~candidates.any(1)
        if lonely.any():
            raise ValueError(
                f"sample {start + int(lonely.nonzero()[0])} has no admissible neighbour; "
                "all others are in its group, or there are none"
            )
        found[start : start + len(query)] = _nearest_of(candidates, query, others)
    return found.to(device)


_NOT_FINITE = "{} hold NaN, infinity, or numbers beyond 1e150; expected finite ones"


def _distances(query: Tensor, others: Tensor, centre: Tensor, squares: Tensor) -> Tensor:
    """Squared distances less the squared norm of the query, (rows, M) float64, up to rounding."""
    query = query.double() - centre
    distances = torch.empty(len(query), len(others), dtype=torch.float64, device=query.device)
    for part, tile in _tiles(others, centre):
        torch.addmm(squares[part], query, tile.T, alpha=-2, out=distances[:, part])
    return distances


def _candidates(distances: Tensor, query: Tensor, centre: Tensor, squares: Tensor) -> Tensor:
    """Which of the others may be the nearest, boolean (rows, M). Overwrites ``distances``.

    Centring, norms and product together err by at most (D + 8) ulp of (‖a‖ + ‖b‖)², which is at most 2 (‖a‖² + ‖b‖²):
    the bound holds for any order of summation, and here is taken twice, since an ulp is two units of rounding.
    """
    error = 2 * (query.shape[1] + 8) * torch.finfo(torch.float64).eps
    own = (query.double() - centre).square().sum(1)
    if not own.isfinite().all():
        raise ValueError(_NOT_FINITE.format("embeddings"))
    largest = distances.add_(error * squares)
    limit = largest.amin(1) + 2 * error * own
    smallest = largest.sub_(2 * error * squares)
    return (smallest <= limit[:, None]).logical_and_(smallest < torch.inf)


def _nearest_of(candidates: Tensor, query: Tensor, others: Tensor) -> Tensor:
    """Index of the nearest candidate of each row (rows,), the lowest of several: by differences, where there are several."""
    first = candidates.to(torch.uint8).argmax(1)  # of several maxima, argmax returns the first
    several = (candidates.sum(1) > 1).nonzero().squeeze(1)
    # Nothing is nearer than a duplicate. Embeddings that collapsed to a few points have M candidates a row, but end here.
    several = several[_differences(query, several, others, first[several]) > 0]
    row, column = candidates[several].nonzero(as_tuple=True)
    exact = _differences(query, several[row], others, column)
    least = torch.full((len(several),), torch.inf, dtype=torch.float64, device=query.device)
    least = least.scatter_reduce(0, row, exact, "amin")
    # Sums of D squares that are equal but for their order differ by less.
    rounding = 2 * (query.shape[1] + 8) * torch.finfo(torch.float64).eps
    column = torch.where(exact <= least[row] * (1 + rounding), column, len(others))
    lowest = torch.full((len(several),), len(others), device=query.device)
    first[several] = lowest.scatter_reduce(0, row, column, "amin")
    return first


def _differences(query: Tensor, row: Tensor, others: Tensor, column: Tensor) -> Tensor:
    """Squared distances of pairs (row of query, column of others), (pairs,) float64, from their differences."""
    size = max(1, ELEMENTS // query.shape[1])
    parts = [
        (query[rows].double() - others[columns]).square_().sum(1)
        for rows, columns in zip(row.split(size), column.split(size), strict=True)
    ]
    return torch.cat(parts)


def _centre(others: Tensor) -> Tensor:
    """Mean embedding (D,) in float64. Distances do not depend on it; the rounding of their products does."""
    total = torch.zeros(others.shape[1], dtype=torch.float64, device=others.device)
    for _, tile in _tiles(others, total):
        total = total + tile.sum(0)
    return total / len(others)


def _tiles(others: Tensor, centre: Tensor):
    """Slices of the rows, and those rows in float64 less ``centre``."""
    size = max(1, ELEMENTS // others.shape[1])
    for start in range(0, len(others), size):
        part = slice(start, min(start + size, len(others)))
        yield part, others[part].double() - centre  # not in place: float64 is not copied


def _check_matrix(name: str, matrix) -> None:
    if not isinstance(matrix, Tensor) or matrix.ndim != 2:
        received = tuple(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ValueError(f"{name} is {received}, expected a tensor (N, D)")
    if not matrix.is_floating_point():
        raise ValueError(f"{name} holds {matrix.dtype}, expected floating-point numbers; convert it with .float()")
    if not matrix.numel():
        raise ValueError(f"{name} is {tuple(matrix.shape)}, expected no empty axis")


def _labels(name: str, labels, length: int) -> np.ndarray:
    labels = check_names(name, labels, length)
    if labels.dtype.kind not in "iub":
        raise ValueError(f"{name} are {labels.dtype}, expected integers")
    return labels


def _codes(exclude, reference_exclude, length: int, reference_length: int | None):
    """Names of groups as numbers: tensors (N,) and (M,), or None twice."""
    if reference_length is None and reference_exclude is not None:
        raise ValueError("reference_exclude is given without reference; expected exclude alone")
    if reference_length is not None and (exclude is None) != (reference_exclude is None):
        raise ValueError("exclude and reference_exclude go together where there is a reference; expected both")
    if exclude is None:
        return None, None
    names = check_names("exclude", exclude, length)
    if reference_length is not None:
        names = np.concatenate([names, check_names("reference_exclude", reference_exclude, reference_length)])
    codes = torch.from_numpy(np.unique(to_array(names), return_inverse=True)[1])
    return (codes, codes) if reference_length is None else (codes[:length], codes[length:])
