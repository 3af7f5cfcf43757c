import numpy as np
import pytest

from addlib import spectra


def test_luminance():
    assert spectra.luminance(np.array([[255, 255, 255], [255, 0, 0]])) == pytest.approx([255, 76.245])


def test_parseval():
    image = np.random.default_rng(0).normal(size=(12, 20))
    assert spectra.power_spectrum(image, window=False).mean() == pytest.approx((image**2).mean())


def test_against_the_sum_that_defines_it():
    image = np.random.default_rng(0).normal(size=(5, 6))
    power = spectra.power_spectrum(image, window=False)
    for u, v in ((0, 0), (1, 2), (3, 5)):
        total = sum(image[y, x] * np.exp(-2j * np.pi * (u * y / 5 + v * x / 6)) for y in range(5) for x in range(6))
        assert power[u, v] == pytest.approx(abs(total) ** 2 / 30)


@pytest.mark.parametrize("window", [False, True])
def test_white_noise_is_flat_at_its_variance(window):
    noise = np.random.default_rng(0).normal(0, 3, (400, 32, 32))
    profile = spectra.radial_profile(spectra.power_spectrum(noise, window=window).mean(0), np.linspace(0.1, 0.5, 6))
    np.testing.assert_allclose(profile, 9, rtol=0.06)


def test_a_wave_is_found_at_its_frequency_though_it_does_not_fit():
    columns = np.arange(128)
    image = np.tile(np.sin(2 * np.pi * 0.203 * columns), (128, 1))
    edges = np.arange(0, 0.51, 0.02)
    profile = spectra.radial_profile(spectra.power_spectrum(image), edges)
    best = np.argmax(profile)
    assert edges[best] <= 0.203 < edges[best + 1]
    assert profile[20] < 1e-6 * profile[best]


def test_rings_keep_leading_axes():
    power = np.random.default_rng(0).random((2, 3, 16, 16))
    profile = spectra.radial_profile(power, [0, 0.2, 0.5])
    assert profile.shape == (2, 3, 2)
    radius = spectra.frequency_radius(16, 16)
    assert profile[1, 2, 0] == pytest.approx(power[1, 2][radius < 0.2].mean())


def test_bad_edges_are_named():
    with pytest.raises(ValueError, match="increasing"):
        spectra.radial_profile(np.ones((8, 8)), [0.2, 0.1])
    with pytest.raises(ValueError, match="wider rings"):
        spectra.radial_profile(np.ones((8, 8)), [0, 0.01, 0.02])


def test_retained_is_the_factor_left_in_each_ring():
    rng = np.random.default_rng(0)
    reference, other = rng.normal(size=(2, 60, 64, 64))
    radius = spectra.frequency_radius(64, 64)
    # Keep half of what is slower than 0.25 cycles per pixel, nothing of the rest, and add something else.
    received = np.fft.ifft2(np.fft.fft2(reference) * 0.5 * (radius < 0.25)).real + other
    kept = spectra.retained(reference, received, [0, 0.2, 0.3, 0.5])
    assert kept[0] == pytest.approx(0.5, abs=0.03) and kept[2] == pytest.approx(0, abs=0.03)
    np.testing.assert_allclose(spectra.retained(reference, reference, [0, 0.2, 0.5]), 1)
    with pytest.raises(ValueError, match="same frames"):
        spectra.retained(reference, other[:3], [0, 0.5])
