"""Power spectra of images: how much of them varies how fast."""

from collections.abc import Sequence

import numpy as np


def luminance(image: np.ndarray) -> np.ndarray:
    """Luma of RGB values (…, 3), ITU-R BT.601 weights, as float64 of the same scale; (…,)."""
    return np.asarray(image, np.float64) @ np.array([0.299, 0.587, 0.114])


def power_spectrum(images: np.ndarray, *, window: bool = True) -> np.ndarray:
    """Squared modulus of the DFT of real images (…, H, W), zero frequency at [0, 0]; white noise has its variance everywhere.

    window: take away the mean and fade to the borders (Hann), so that the jump between opposite borders, which the DFT sees
    as an edge, does not leak into every frequency.
    """
    images = np.asarray(images, np.float64)
    height, width = images.shape[-2:]
    weight = np.ones((height, width))
    if window:
        images = images - images.mean((-2, -1), keepdims=True)
        weight = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    return np.abs(np.fft.fft2(images * weight)) ** 2 / (weight**2).sum()


def frequency_radius(height: int, width: int) -> np.ndarray:
    """Distance of each DFT coefficient from zero frequency in cycles per pixel; (height, width), at most √½."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def radial_profile(power: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Mean of spectra (…, H, W) over rings edges[i] ≤ f < edges[i + 1] in cycles per pixel; (…, len(edges) - 1).

    Raises ValueError where edges do not increase, or a ring holds no coefficient.
    """
    power, edges = np.asarray(power), np.asarray(edges, float)
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges are {edges}; expected two or more increasing frequencies in cycles per pixel")
    radius = frequency_radius(*power.shape[-2:])
    rings = [(low <= radius) & (radius < high) for low, high in zip(edges, edges[1:], strict=False)]
    if empty := [index for index, ring in enumerate(rings) if not ring.any()]:
        low, high = edges[empty[0] : empty[0] + 2]
        raise ValueError(f"no coefficient of {power.shape[-2:]} lies from {low:g} to {high:g}; take wider rings")
    return np.stack([power[..., ring].mean(-1) for ring in rings], -1)


def retained(reference: np.ndarray, received: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Share of a signal (…, H, W) that is still in what was received, ring by ring of ``radial_profile``; leading axes add up.

    It is the factor that, times the reference, comes nearest to the received in each ring: ``Σ Re(R·conj(S)) / Σ |S|²`` with
    the windowed DFTs S of the reference and R of the received. 1 where nothing is lost, 0 where nothing of it is left,
    whatever else has come instead. Raises ValueError where the shapes differ.
    """
    reference, received = np.asarray(reference, np.float64), np.asarray(received, np.float64)
    if reference.shape != received.shape:
        raise ValueError(f"reference is {reference.shape}, received {received.shape}; expected the same frames twice")
    # Polarisation: Re(R·conj(S)) = (|R + S|² - |R - S|²) / 4, so that the one function above serves.
    cross = (power_spectrum(received + reference) - power_spectrum(received - reference)) / 4
    summed = (part.reshape(-1, *part.shape[-2:]).sum(0) for part in (cross, power_spectrum(reference)))
    kept, whole = radial_profile(np.stack(list(summed)), edges)
    return kept / whole
