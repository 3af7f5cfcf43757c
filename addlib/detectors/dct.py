"""The orthonormal DCT-II (Ahmed, Natarajan and Rao, IEEE Transactions on Computers, 1974) as matrix products."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dct_matrix(size: int) -> Tensor:
    """Matrix A, float64, that transforms a vector, A @ v: row k is √(2/n) cos(π (2m + 1) k / 2n), row 0 is 1/√n."""
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
    """Masks (bands, size, size) of 0 and 1, float64: coefficients (i, j) with i + j in [edges[b], edges[b + 1])."""
    edges = torch.as_tensor(edges, dtype=torch.float64)[:, None, None]
    position = torch.arange(size, dtype=torch.float64)
    order = position[:, None] + position
    return ((order >= edges[:-1]) & (order < edges[1:])).double()
