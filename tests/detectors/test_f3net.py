import math

import numpy as np
import pytest
import scipy.fft
import torch

from addlib.detectors import create_detector
from addlib.detectors.dct import dct_matrix
from addlib.detectors.f3net import (
    FLOOR,
    FrequencyDecomposition,
    LocalFrequencyStatistics,
    MixBlock,
    frequency_decomposition,
    learned_masks,
    local_statistics,
)
from addlib.detectors.xception import stem, xception_trunk


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("size", [32, 128, 299])
def test_bands_have_the_areas_of_the_paper(size):
    base = FrequencyDecomposition(size).base
    assert torch.equal(base.sum(0), torch.ones(size, size))
    low, middle, high = (base.mean((1, 2)) * 16).tolist()
    # 1/16, 1/16 and 7/8, but for the staircase along an edge of about n coefficients.
    assert low == pytest.approx(1, abs=10 / size) and middle == pytest.approx(1, abs=10 / size) and low < 2 < high


def test_decomposition_against_scipy(images):
    module = FrequencyDecomposition(32)
    with torch.no_grad():
        module.weight.copy_(torch.randn(3, 32, 32))
    spectra = scipy.fft.dctn(images.double().numpy(), axes=(2, 3), norm="ortho")
    for band, (found, base) in enumerate(zip(module(images).split(3, 1), module.base.numpy(), strict=True)):
        gain = base + np.tanh(module.weight[band].detach().double().numpy() / 2)  # 2σ(w) - 1 = tanh(w/2)
        expected = scipy.fft.idctn(spectra * gain, axes=(2, 3), norm="ortho")
        np.testing.assert_allclose(found.detach(), expected, atol=1e-5)


def test_bands_add_up_to_the_image_at_the_start(images):
    found = FrequencyDecomposition(32)(images)
    assert found.shape == (2, 9, 32, 32)
    torch.testing.assert_close(found.unflatten(1, (3, 3)).sum(1), images, rtol=0, atol=1e-5)
    # Of a flat image all is in the lowest band, of a chequerboard nearly all in the highest.
    flat = FrequencyDecomposition(32)(torch.ones(1, 3, 32, 32))
    torch.testing.assert_close(flat[:, :3], torch.ones(1, 3, 32, 32))
    assert flat[:, 3:].abs().max() < 1e-5
    chequered = (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32)).expand(1, 3, 32, 32)
    energies = FrequencyDecomposition(32)(chequered).unflatten(1, (3, 3)).square().sum((0, 2, 3, 4))
    assert energies[2] > 0.99 * energies.sum()


def test_a_filter_that_passes_everything_gives_the_image_back(images):
    found = frequency_decomposition(images, torch.ones(1, 32, 32), dct_matrix(32).float())
    torch.testing.assert_close(found, images, rtol=0, atol=1e-5)


def test_learned_part_stays_between_minus_one_and_one():
    weight = torch.tensor([-50.0, -1.0, 0.0, 1.0, 50.0])
    found = learned_masks(torch.zeros(5), weight)
    torch.testing.assert_close(found, torch.tensor([-1.0, -math.tanh(0.5), 0.0, math.tanh(0.5), 1.0]))


def test_statistics_against_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 17, 21, generator=generator, dtype=torch.float64)
    masks = torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    found = local_statistics(images, masks, dct_matrix(6), stride=3)
    assert found.shape == (2, 4, 4, 6)
    for b, band, row, column in np.ndindex(*found.shape):
        energy = 0.0
        for colour in images[b].numpy():
            window = colour[3 * row : 3 * row + 6, 3 * column : 3 * column + 6]
            energy += np.abs(scipy.fft.dctn(window, norm="ortho") * masks[band].numpy()).sum()
        assert found[b, band, row, column].item() == pytest.approx(math.log10(energy + FLOOR), abs=1e-9)


def test_local_bands_share_the_window():
    base = LocalFrequencyStatistics().base
    assert torch.equal(base.sum(0), torch.ones(10, 10))
    # 19 anti-diagonals in six bands.
    diagonals = [sorted({int(i + j) for i, j in mask.nonzero()}) for mask in base]
    assert diagonals == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15], [16, 17, 18]]


@pytest.mark.parametrize("size", [32, 33, 96, 128, 299])
def test_both_streams_have_one_size(size):
    found = LocalFrequencyStatistics()(torch.zeros(1, 3, size, size))
    assert found.shape == (1, 6, (size - 3) // 2 + 1, (size - 3) // 2 + 1)
    if size == 299:
        assert found.shape[-1] == 149  # of the paper


def test_statistics_of_a_flat_image_are_finite_with_gradient():
    images = torch.full((1, 3, 32, 32), 0.3, requires_grad=True)
    module = LocalFrequencyStatistics()
    found = module(images)
    assert bool(found.isfinite().all()) and found[:, 0].min() > 0 and found[:, 5].max() < -1
    found.sum().backward()
    assert bool(images.grad.isfinite().all()) and bool(module.weight.grad.isfinite().all())


def test_transforms_stay_in_single_precision_under_autocast(images):
    for module in (FrequencyDecomposition(32), LocalFrequencyStatistics()):
        with torch.autocast("cpu", torch.bfloat16):
            found = module(images)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, module(images), rtol=0, atol=0)


def test_mixing_against_a_plain_loop():
    torch.manual_seed(0)
    block = MixBlock(16).double().eval()
    first, second = torch.randn(2, 2, 16, 2, 3, dtype=torch.float64)
    found = block(first, second)

    def project(layer, column):
        return layer.weight.detach().numpy()[:, :, 0, 0] @ column + (
            0 if layer.bias is None else layer.bias.detach().numpy()
        )

    def normalised(layers, column):
        layer = layers[1]
        return 0.1 * project(layers[0], column) / math.sqrt(1 + layer.eps)

    def softmax(values):
        powers = np.exp(np.array(values))
        return powers / powers.sum()

    places = list(np.ndindex(2, 3))
    for b in range(2):
        one = {p: first[b, :, p[0], p[1]].numpy() for p in places}
        two = {p: second[b, :, p[0], p[1]].numpy() for p in places}
        affinity = {
            (p, q): project(block.query, one[p]) @ project(block.key, two[q]) / math.sqrt(2)
            for p in places
            for q in places
        }
        for p in places:
            weights = softmax([affinity[p, q] for q in places])
            expected = one[p] + normalised(
                block.to_first, sum(w * two[q] for w, q in zip(weights, places, strict=True))
            )
            np.testing.assert_allclose(found[0][b, :, p[0], p[1]].detach(), expected, rtol=1e-6, atol=1e-8)
            weights = softmax([affinity[q, p] for q in places])
            expected = two[p] + normalised(
                block.to_second, sum(w * one[q] for w, q in zip(weights, places, strict=True))
            )
            np.testing.assert_allclose(found[1][b, :, p[0], p[1]].detach(), expected, rtol=1e-6, atol=1e-8)


def test_each_stream_hears_of_the_other():
    detector = create_detector("f3net", size=64).eval()
    crops = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = detector(crops).stages
        detector.lfs.weight.add_(1.0)
        after = detector(crops).stages
    own = [256 // 2, 512 // 2, 1456 // 2, 4096 // 2]
    heard = [not torch.equal(a[:, :width], b[:, :width]) for a, b, width in zip(before, after, own, strict=True)]
    assert heard == [False, False, True, True]  # the FAD half: from block 7 on


def test_public_weights_start_both_streams(tmp_path):
    torch.manual_seed(5)
    public = xception_trunk(3).eval()
    torch.save(
        {**public.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, tmp_path / "x.pth"
    )
    detector = create_detector("f3net", size=64, weights=tmp_path / "x.pth").eval()
    crops = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        # The bands add up to the crop, so the stream begins as the Xception of the file.
        expected, found = stem(public, crops), stem(detector.fad_stream, detector.fad(crops))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    ours, state = detector.state_dict(), public.state_dict()
    assert all(torch.equal(ours[f"lfs_stream.{key}"], state[key]) for key in state if key != "conv1.weight")
    assert detector.head.out_features == 2 and bool(detector.head.weight.any())


def test_parameters():
    found = sum(p.numel() for p in create_detector("f3net", size=128).parameters())
    trunk = 22_855_952 - 2049 * 1000  # an Xception without its classifier
    first_layers = (9 - 3) * 32 * 9 + (6 - 3) * 32 * 9
    mixing = sum(2 * (c * (c // 8) + c // 8) + 2 * (c * c + 2 * c) for c in (728, 1024))
    assert found == 2 * trunk + first_layers + 3 * 128**2 + 6 * 10**2 + mixing + 4096 * 2 + 2
