import numpy as np
import pytest
import scipy.fft
import torch

from addlib.detectors.dct import band_masks, dct2, dct_matrix, idct2


@pytest.mark.parametrize("size", [1, 2, 7, 10, 128])
def test_against_scipy(size):
    matrix = dct_matrix(size)
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    expected = scipy.fft.dctn(images.numpy(), axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(dct2(images, matrix), expected, atol=1e-12)
    np.testing.assert_allclose(idct2(dct2(images, matrix), matrix), images, atol=1e-12)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)


def test_bands_follow_the_diagonals():
    masks = band_masks(4, (0, 2, 3, 8))
    order = [[i + j for j in range(4)] for i in range(4)]
    expected = [[[low <= o < high for o in row] for row in order] for low, high in ((0, 2), (2, 3), (3, 8))]
    np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize("edges", [(0,), (0, 2, 2), (3, 1)])
def test_edges_that_do_not_rise(edges):
    with pytest.raises(ValueError, match="two or more rising values"):
        band_masks(8, edges)


def test_no_size():
    with pytest.raises(ValueError, match="size is 0"):
        dct_matrix(0)
