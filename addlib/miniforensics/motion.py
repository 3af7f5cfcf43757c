"""How a head moves and how it is lit through a video."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Pose:
    """One instant. Angles in radians, x and y in pixels, light a vector towards the lamp; the rest are dimensionless."""

    yaw: float
    pitch: float
    roll: float
    x: float
    y: float
    scale: float
    mouth_open: float
    smile: float
    blink: float
    gaze_x: float
    gaze_y: float
    light: np.ndarray
    key: float
    ambient: float
    tint: np.ndarray


def trajectory(seed, number, frames):
    """``frames`` poses of the video of person ``number``, 25 a second: slow turns, speech-like mouth, one blink."""
    rng = np.random.default_rng([seed, number, 3])
    t = np.arange(frames)

    def wave(amplitude, shortest, longest, offset=0.0):
        total = np.full(frames, offset, float)
        for order in (1, 2):
            height = amplitude * rng.uniform(0.4, 1) / order
            total += height * np.sin(2 * np.pi * t / rng.uniform(shortest, longest) + rng.uniform(0, 2 * np.pi))
        return total

    turns = [wave(size, 24, 60, rng.normal(0, size)) for size in (0.10, 0.05, 0.03)]  # yaw, pitch, roll
    x, y = wave(3, 24, 70, rng.normal(0, 5)), wave(2, 24, 70, rng.normal(0, 4))
    scale = wave(0.015, 30, 80, rng.uniform(0.92, 1.06))
    mouth_open = np.clip(wave(0.09, 5, 12, 0.05), 0, 0.2)
    smile = np.clip(wave(0.35, 20, 60, rng.normal(0.1, 0.3)), -0.4, 1)
    start = rng.integers(0, max(frames, 40))
    blink = np.select([(start < t) & (t < start + 3), (start == t) | (t == start + 3)], [1.0, 0.5])
    gaze_x, gaze_y = wave(0.6, 15, 40), wave(0.3, 15, 40)
    azimuth, elevation = rng.uniform(-0.9, 0.9) + wave(0.06, 30, 60), rng.uniform(-0.75, -0.15)
    key, ambient = rng.uniform(0.45, 0.8), rng.uniform(0.30, 0.5)
    tint = (1 + rng.normal(0, 0.04, 3)).astype(np.float32)
    height = np.full(frames, np.sin(elevation))
    light = np.stack([np.sin(azimuth) * np.cos(elevation), height, np.cos(azimuth) * np.cos(elevation)], 1)
    moving = (*turns, x, y, scale, mouth_open, smile, blink, gaze_x, gaze_y, light.astype(np.float32))
    return [Pose(*instant, key, ambient, tint) for instant in zip(*moving, strict=True)]
