import numpy as np
import pytest

import spectra


def test_luminance():
    assert spectra.luminance(np.array([[255, 255, 255], [255, 0, 0]])) == pytest.approx([255, 76.245])


def test_power_is_the_sum_that_defines_it():
    image = np.random.default_rng(0).normal(size=(5, 6))
    power = spectra.power_spectrum(image, window=False)
    for u, v in np.ndindex(5, 6):
        total = sum(image[y, x] * np.exp(-2j * np.pi * (u * y / 5 + v * x / 6)) for y, x in np.ndindex(5, 6))
        assert power[u, v] == pytest.approx(abs(total) ** 2 / 30)
    assert power.mean() == pytest.approx((image**2).mean()), "Parseval"


@pytest.mark.parametrize("window", [False, True])
def test_white_noise_is_flat_at_its_variance(window):
    noise = np.random.default_rng(0).normal(0, 3, (400, 32, 32))
    profile = spectra.radial_profile(spectra.power_spectrum(noise, window=window).mean(0), np.linspace(0.1, 0.5, 6))
    np.testing.assert_allclose(profile, 9, rtol=0.06)


def test_a_wave_is_found_at_its_frequency_though_it_does_not_fit():
    image = np.tile(np.sin(2 * np.pi * 0.203 * np.arange(128)), (128, 1))
    edges = np.arange(0, 0.51, 0.02)
    profile = spectra.radial_profile(spectra.power_spectrum(image), edges)
    best = np.argmax(profile)
    assert edges[best] <= 0.203 < edges[best + 1] and profile[20] < 1e-6 * profile[best]


def test_rings_keep_leading_axes():
    power = np.random.default_rng(0).random((2, 3, 16, 16))
    profile = spectra.radial_profile(power, [0, 0.2, 0.5])
    inside = [power[1, 2, v, u] for v, u in np.ndindex(16, 16) if np.hypot((v + 8) % 16 - 8, (u + 8) % 16 - 8) < 3.2]
    assert profile.shape == (2, 3, 2) and profile[1, 2, 0] == pytest.approx(np.mean(inside))
    with pytest.raises(ValueError, match="increasing"):
        spectra.radial_profile(np.ones((8, 8)), [0.2, 0.1])
    with pytest.raises(ValueError, match="0.01 to 0.02; take wider rings"):
        spectra.radial_profile(np.ones((8, 8)), [0, 0.01, 0.02])


def test_retained_is_the_factor_left_in_each_ring():
    reference, other = np.random.default_rng(0).normal(size=(2, 60, 64, 64))
    # Keep half of what is slower than 0.25 cycles per pixel, nothing of the rest, and add something else.
    kept = 0.5 * (spectra.frequency_radius(64, 64) < 0.25)
    received = np.fft.ifft2(np.fft.fft2(reference) * kept).real + other
    low, _, high = spectra.retained(reference, received, [0, 0.2, 0.3, 0.5])
    assert low == pytest.approx(0.5, abs=0.03) and high == pytest.approx(0, abs=0.03)
    np.testing.assert_allclose(spectra.retained(reference, reference, [0, 0.2, 0.5]), 1)
    with pytest.raises(ValueError, match="same frames"):
        spectra.retained(reference, other[:3], [0, 0.5])
