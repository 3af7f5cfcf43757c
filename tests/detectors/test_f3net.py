"""F3-Net's transforms against scipy and plain loops."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from scipy.special import softmax

from addlib.detectors import create_detector
from addlib.detectors.dct import dct2, dct_matrix, idct2
from addlib.detectors.f3net import FLOOR, FrequencyDecomposition, LocalFrequencyStatistics, MixBlock
from addlib.detectors.xception import xception_trunk

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("size", [32, 128, 299])
def test_bands_are_diagonal_stripes_of_the_papers_areas(size):
    base = FrequencyDecomposition(size).base
    band = np.digitize(np.add.outer(np.arange(size), np.arange(size)), [size / math.sqrt(8), size / 2])
    np.testing.assert_array_equal(base, [band == number for number in range(3)])
    # But for the staircase along an edge of about n coefficients:
    assert base.mean((1, 2)).tolist() == pytest.approx([1 / 16, 1 / 16, 7 / 8], abs=1 / size)
    # In a window of 10 × 10, 19 anti-diagonals in six bands.
    local = LocalFrequencyStatistics().base
    diagonals = [sorted({int(i + j) for i, j in mask.nonzero()}) for mask in local]
    assert diagonals == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15], [16, 17, 18]]


def test_decomposition_against_scipy():
    matrix, module = dct_matrix(32).float(), FrequencyDecomposition(32)
    torch.testing.assert_close(idct2(dct2(IMAGES, matrix), matrix), IMAGES, rtol=0, atol=1e-5)
    torch.testing.assert_close(module(IMAGES).unflatten(1, (3, 3)).sum(1), IMAGES, rtol=0, atol=1e-5)
    module.weight.data = torch.randn(3, 32, 32)
    spectra = scipy.fft.dctn(IMAGES.double().numpy(), axes=(2, 3), norm="ortho")
    for band, (found, base) in enumerate(zip(module(IMAGES).split(3, 1), module.base.numpy(), strict=True)):
        gain = base + np.tanh(module.weight[band].detach().double().numpy() / 2)  # 2σ(w) - 1 = tanh(w/2)
        expected = scipy.fft.idctn(spectra * gain, axes=(2, 3), norm="ortho")
        np.testing.assert_allclose(found.detach(), expected, atol=1e-5)


def test_statistics_against_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    module = LocalFrequencyStatistics().double()
    module.weight.data = torch.randn(6, 10, 10, generator=generator, dtype=torch.float64)
    images = torch.rand(2, 3, 11, 15, generator=generator, dtype=torch.float64)
    found = module(images).detach()
    assert found.shape == (2, 6, 5, 7)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 4), (3, 4)), mode="reflect")
    gain = (module.base + torch.tanh(module.weight / 2)).detach().numpy()
    for b, band, row, column in np.ndindex(*found.shape):
        windows = padded[b, :, 2 * row : 2 * row + 10, 2 * column : 2 * column + 10]
        energy = np.abs(scipy.fft.dctn(windows, axes=(1, 2), norm="ortho") * gain[band]).sum()
        assert found[b, band, row, column].item() == pytest.approx(math.log10(energy + FLOOR), abs=1e-6)


def test_statistics_of_a_flat_crop_are_finite_and_of_the_papers_size():
    images, module = torch.full((1, 3, 299, 299), 0.3, requires_grad=True), LocalFrequencyStatistics()
    with torch.autocast("cpu", torch.bfloat16):  # which would be too coarse for the transform
        found = module(images)
    assert found.dtype == torch.float32 and found.shape == (1, 6, 149, 149)
    assert found.isfinite().all() and found[:, 0].min() > 0 and found[:, 5].max() < -1
    found.sum().backward()
    assert images.grad.isfinite().all() and module.weight.grad.isfinite().all()


def test_mixing_by_hand():
    torch.manual_seed(0)
    block = MixBlock(16).double().eval()
    maps = torch.randn(2, 2, 16, 2, 3, dtype=torch.float64)
    found = block(*maps)

    def project(layer, columns):
        bias = 0 if layer.bias is None else layer.bias.detach().numpy()[:, None]
        return layer.weight.detach().numpy()[:, :, 0, 0] @ columns + bias

    def added(layers, columns):
        return 0.1 * project(layers[0], columns) / math.sqrt(1 + layers[1].eps)

    one, two = (each.flatten(2).numpy() for each in maps)
    affinity = project(block.query, one).swapaxes(1, 2) @ project(block.key, two) / math.sqrt(2)
    from_second, from_first = two @ softmax(affinity, 2).swapaxes(1, 2), one @ softmax(affinity, 1)
    expected = one + added(block.to_first, from_second), two + added(block.to_second, from_first)
    np.testing.assert_allclose([each.detach().flatten(2) for each in found], expected, rtol=1e-6, atol=1e-8)


def test_public_weights_start_both_streams_which_hear_of_each_other(tmp_path):
    public = xception_trunk(3).eval()
    state = public.state_dict()
    torch.save(state | {"fc.weight": torch.zeros(2, 2048), "fc.bias": torch.zeros(2)}, tmp_path / "x.pth")
    detector = create_detector("f3net", size=64, weights=tmp_path / "x.pth").eval()
    crops, ours = torch.rand(1, 3, 64, 64) * 2 - 1, detector.state_dict()
    for name in ("fad", "lfs"):
        assert all(torch.equal(ours[f"{name}_stream.{key}"], state[key]) for key in state if key != "conv1.weight")
    assert detector.head.weight.any()
    with torch.no_grad():
        # The bands add up to the crop, so the stream begins as the Xception of the file.
        expected, found = public.conv1(crops), detector.fad_stream.conv1(detector.fad(crops))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        before = detector(crops).stages
        detector.lfs.weight.add_(1.0)
        after = detector(crops).stages
    heard = [not torch.equal(*(s[:, : s.shape[1] // 2] for s in pair)) for pair in zip(before, after, strict=True)]
    assert heard == [False, False, True, True]  # what LFS finds changes the FAD half from block 7 on


def test_parameters():
    found = sum(p.numel() for p in create_detector("f3net", size=128).parameters())
    trunk = 22_855_952 - 2049 * 1000  # an Xception without its classifier
    first_layers = (9 - 3) * 32 * 9 + (6 - 3) * 32 * 9
    mixing = sum(2 * (c * (c // 8) + c // 8) + 2 * (c * c + 2 * c) for c in (728, 1024))
    assert found == 2 * trunk + first_layers + 3 * 128**2 + 6 * 10**2 + mixing + 4096 * 2 + 2
