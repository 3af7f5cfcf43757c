"""Slices of a feature map, their attention vectors and distances: Le and Woo, "ADD" (AAAI 2022), eq. 4-8, algorithm 1.

A map A (C, H, W) is a distribution of mass A^2 / ||A||^2 over the points (c, y, x) of its grid. A unit direction theta
sends every point to <theta, (c, y, x)>; the mass in each of g equal-width bins of this view's range is its attention
vector. :func:`plain_attention` is this sum. :class:`SlicePlan` is fast: it sorts the elements by bin once for the whole
batch. Sums of gathered rows need no atomic additions: the same bits each run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from ._checks import check_choice, check_maps, check_whole, chunks, received, source_of, untraced, working_dtype

COORDINATES = ("index", "unit")
SMALLEST_PEAK = 1e-12  # below this largest modulus the mass of a map fades to zero: its norm would blow up noise
EDGE_TOLERANCE = 1e-9  # an element this close below an edge (in bins) counts as on it, however a device rounds


def plain_mass(features: Tensor) -> Tensor:
    """A^2 / ||A||^2 of every map, (B, N), eq. 4; without under- or overflow, fading to zero below the smallest peak."""
    flat = features.to(working_dtype(features)).flatten(1)
    squares = (flat / flat.detach().abs().amax(1, keepdim=True).clamp_min(SMALLEST_PEAK)).square()
    return squares / squares.sum(1, keepdim=True).clamp_min(1)


def plain_attention(features: Tensor, index: Tensor, bins: int) -> Tensor:
    """Attention (B, K, bins): in every view each element adds its mass to its bin, ``index`` (K, N)."""
    mass = plain_mass(features)[:, None].expand(-1, len(index), -1)
    return mass.new_zeros(len(features), len(index), bins).scatter_add(2, index.long().expand_as(mass), mass)


def random_directions(views: int, *, generator: Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """Directions (views, 3), float64, order (c, y, x), uniform on the unit sphere, drawn where ``generator`` is."""
    source = source_of(generator)
    normal = torch.randn(check_whole("views", views), 3, generator=generator, dtype=torch.float64, device=source)
    return functional.normalize(normal, dim=1).to(device)


def project_grid(shape: Sequence[int], directions: Tensor, *, coordinates: str = "index") -> Tensor:
    """<theta, (c, y, x)>, (K, C, H, W), float64, for every point of a grid (C, H, W) and directions (K, 3), eq. 6.

    ``coordinates="index"`` counts 0, 1, 2, ... along every axis, as published; ``"unit"`` scales every axis to [0, 1].
    """
    check_choice("coordinates", coordinates, COORDINATES)
    theta = _check_directions(directions).double()
    axes = [torch.arange(size, dtype=torch.float64, device=theta.device) for size in shape]
    c, y, x = (axis / max(len(axis) - 1, 1) for axis in axes) if coordinates == "unit" else axes
    plane = theta[:, 1, None, None] * y[:, None] + theta[:, 2, None, None] * x
    return (theta[:, 0, None] * c)[:, :, None, None] + plane[:, None]


def bin_indices(projections: Tensor, bins: int) -> Tensor:
    """Equal-width bin, 0 to ``bins`` - 1, of each point (K, ...) in its row's range; the upper one for a point on an edge."""
    check_whole("bins", bins)  # the paper takes half the number of channels
    flat = projections.double().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    per_unit = torch.where(high > low, bins / (high - low), 0)
    position = torch.sub(flat, low).mul_(per_unit).add_(EDGE_TOLERANCE)
    return position.to(torch.int64).clamp_(max=bins - 1).view_as(projections)


@untraced
def sliced_attention(features: Tensor, directions: Tensor, bins: int, *, coordinates: str = "index") -> Tensor:
    """Attention vectors (B, K, bins) of maps (B, C, H, W): their mass, in all 1, in equal-width bins of every view."""
    check_maps(features=features)
    plan = plan_slices(features.shape[1:], directions, bins, coordinates, features.device)
    if features.requires_grad and torch.is_grad_enabled():
        return plain_attention(features, plan.index, bins)
    return plan.attention(features)[0]


@untraced
def sliced_wasserstein(
    first: Tensor, second: Tensor, directions: Tensor, *, p: int = 1, coordinates: str = "index", reduction: str = "mean"
) -> Tensor:
    """Sliced p-Wasserstein distance (B,) of the masses of maps (B, C, H, W), p 1 or 2, eq. 5 and 7; for study, it sorts.

    It is (mean over views of W_p^p)^(1/p); ``reduction="none"`` gives W_p^p of every view, (B, K).
    """
    check_maps(first=first, second=second)
    check_choice("reduction", reduction, ("mean", "none"))
    check_choice("p", p, (1, 2))
    projections = project_grid(first.shape[1:], directions, coordinates=coordinates).to(first.device).flatten(1)
    masses = [plain_mass(features.double()) for features in (first, second)]
    costs = []
    for view in projections:
        positions, order = torch.sort(view, stable=True)
        costs.append(wasserstein_1d(positions, masses[0][:, order], masses[1][:, order], p=p))
    cost = torch.stack(costs, dim=1)
    return cost if reduction == "none" else cost.mean(1) ** (1 / p)


def wasserstein_1d(positions: Tensor, first: Tensor, second: Tensor, *, p: int = 1) -> Tensor:
    """W_p^p, (B,), between masses (B, N) of equal sums on common ascending positions (N,), eq. 5, of order p >= 1."""
    if p == 1:
        return ((first - second).cumsum(1)[:, :-1].abs() * positions.diff()).sum(1)
    levels = [masses.cumsum(1) for masses in (first, second)]
    merged = torch.cat(levels, dim=1).sort(dim=1).values  # between these both quantile functions are constant
    steps = torch.diff(merged, dim=1, prepend=merged.new_zeros(len(merged), 1))
    index = [torch.searchsorted(level.detach(), merged.detach()).clamp_(max=len(positions) - 1) for level in levels]
    return (steps * (positions[index[0]] - positions[index[1]]).abs() ** p).sum(1)


class SlicePlan(NamedTuple):
    """Which element falls into which bin, for one grid and all views; attention vectors and their gradient."""

    index: Tensor  # (K, N), bin of element n in view k, int16 or int32
    order: Tensor  # (K * N,), elements view by view and, within a view, bin by bin, int32
    offsets: Tensor  # (K * bins,), where each bin starts in `order`, int32
    bins: int  # of a view

    def attention(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention (B, K, bins) of a batch, and what its gradient needs: the peak (B,) of every map and its mass (B,)."""
        batch, dtype = len(features), working_dtype(features)
        attention = features.new_empty((batch, len(self.offsets)), dtype=dtype)
        peak = features.new_empty(batch, dtype=dtype)
        for part in chunks(features):
            peak[part] = features[part].abs().amax((1, 2, 3)).to(dtype).clamp_min_(SMALLEST_PEAK)
            flat = features[part].to(dtype).flatten(1)
            # Not contiguous(), which returns the caller's memory if one of the axes has length 1.
            mass = flat.new_empty(flat.shape[::-1]).copy_(flat.t()).div_(peak[part]).square_()
            attention[part] = functional.embedding_bag(self.order, mass, self.offsets, mode="sum").t()
        attention = attention.view(batch, -1, self.bins)
        total = attention[:, 0].sum(1, dtype=torch.float64).to(dtype)
        attention /= total.clamp(min=1)[:, None, None]  # in units of its peak, a map has a mass of at least 1
        return attention, peak, total

    def gradient(self, features: Tensor, slopes: Tensor, upstream: Tensor, *saved: Tensor) -> Tensor:
        """Gradient of sum(slopes * attention) times the scalar ``upstream``; ``saved`` are those of :meth:`attention`.

        With p = m / M, m = (A / s)^2, M = max(sum of m, 1), s the peak and q(n) the sum over views of the slopes of the
        bins that hold element n: dA = 2 A / (s^2 M) (q - sum of p q), the last term only where M is the sum of m.
        """
        attention, peak, total = saved
        dtype, limit = working_dtype(features), torch.finfo(features.dtype).max
        half = limit < torch.finfo(dtype).max
        scale = 2 / (peak * total.clamp(min=1)) * (1 if half else upstream)
        mean = (slopes * attention).sum((1, 2), dtype=torch.float64).to(dtype) * (total >= 1)
        views = torch.arange(len(self.index), dtype=torch.int32, device=features.device)
        per_element = torch.add(self.index, views[:, None] * self.bins).t().contiguous()  # (N, K), through all views
        gradient = torch.empty_like(features)
        for part in chunks(features):
            rows = slopes[part].flatten(1).t().contiguous()  # the batch last: a number for each sample is a row
            spread = functional.embedding_bag(per_element, rows, mode="sum").sub_(mean[part]).mul_(scale[part])
            chunk = features[part].to(dtype).flatten(1)
            result = torch.empty_like(chunk).copy_(spread.t()).mul_(chunk).div_(peak[part, None])
            if half:  # the scale of the loss after saturating, so that GradScaler still sees it overflow
                result.clamp_(-limit, limit).mul_(upstream)
            gradient[part] = result.to(gradient.dtype).view_as(features[part])
        return gradient


def plan_slices(
    shape: Sequence[int], directions: Tensor, bins: int, coordinates: str, device: torch.device, raster: bool = False
) -> SlicePlan:
    """Bins of a grid (C, H, W) seen from directions (K, 3), and its elements in the order of their bins."""
    projections = project_grid(shape, _check_directions(directions).to(device), coordinates=coordinates)
    index = bin_indices(projections, bins).flatten(1).to(torch.int16 if bins < 2**15 else torch.int32)
    views, elements = index.shape
    order, starts = _sort(index, bins)
    if raster:  # as in the published code: directions decide how many elements a bin has, raster order decides which
        cuts = (starts[:, 1:] + 1).clamp_(max=elements).contiguous()
        along = torch.arange(elements, device=device).expand(views, -1).contiguous()
        index = torch.searchsorted(cuts, along, right=True).to(index.dtype)
        order, starts = _sort(index, bins)
    starts = starts + torch.arange(views, device=device)[:, None] * elements
    return SlicePlan(index, order.reshape(-1).int(), starts.reshape(-1).int(), bins)


def _sort(index: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Elements of every view in the order of their bins, (K, N), and where each bin starts, (K, bins)."""
    if index.is_cpu:  # NumPy's stable sort of small integers is a counting sort, five times as fast as torch's
        order = torch.from_numpy(np.argsort(index.numpy(), axis=1, kind="stable"))
    else:
        order = torch.argsort(index, dim=1, stable=True)
    edges = torch.arange(bins, device=index.device, dtype=index.dtype).expand(len(index), -1).contiguous()
    return order, torch.searchsorted(index.gather(1, order), edges)


def _check_directions(directions: Tensor) -> Tensor:
    """Directions without gradient, if they are unit rows (K, 3). Lengths are read on a CPU only: a GPU would wait."""
    fits = isinstance(directions, Tensor) and directions.is_floating_point() and directions.shape[1:] == (3,)
    if fits and directions.is_cpu:
        fits = len(directions) > 0 and bool(((directions.double().norm(dim=1) - 1).abs() <= 1e-3).all())
    if not fits:
        raise ValueError(f"directions are {received(directions)}, expected unit rows (K, 3); use random_directions(K)")
    return directions.detach()
