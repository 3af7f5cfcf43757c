"""The discrete cosine transform (DCT-II, orthonormal) as matrix products, and its division into bands.

Ahmed, Natarajan and Rao, "Discrete Cosine Transform" (IEEE Transactions on Computers, 1974).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II matrix A (size, size), float64: A @ v transforms a vector, A.T @ v goes back.

    Row k holds √(2/n) cos(π (2m + 1) k / 2n) over m, the first row 1/√n. Raises ValueError if size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, expected at least 1")
    position = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi / (2 * size) * torch.outer(position, 2 * position + 1))
    matrix[0] = 1 / math.sqrt(size)
    return matrix


def dct2(images: Tensor, matrix: Tensor) -> Tensor:
    """Two-dimensional DCT of (..., n, n) over the last two axes. matrix: ``dct_matrix(n)`` in the images' dtype."""
    return matrix @ images @ matrix.mT


def idct2(spectra: Tensor, matrix: Tensor) -> Tensor:
    """Inverse of :func:`dct2`."""
    return matrix.mT @ spectra @ matrix


def band_masks(size: int, edges: Sequence[float]) -> Tensor:
    """Masks (bands, size, size), 0 or 1, of the coefficients (i, j) whose i + j lies in [edges[b], edges[b + 1]).

    i + j is the measure of frequency: the bands are stripes along the anti-diagonals of the spectrum. float64.
    Raises ValueError if the edges do not rise.
    """
    edges = torch.as_tensor(edges, dtype=torch.float64)
    if edges.numel() < 2 or not bool((edges.diff() > 0).all()):
        raise ValueError(f"edges are {edges.tolist()}, expected two or more rising values")
    order = torch.arange(size, dtype=torch.float64)
    order = (order[:, None] + order)[None]
    return ((order >= edges[:-1, None, None]) & (order < edges[1:, None, None])).double()
