"""Do the crops of two qualities show the face in the same place? Measured on their pixels."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from .manifest import read_manifest

SHIFT = 1.5  # pixels of a crop
BAND = 0.12  # cycles a pixel


def shift(raw: np.ndarray, compressed: np.ndarray) -> tuple[float, float]:
    """Displacement of crops against others by phase correlation.

    The normalised cross spectra of the crops are averaged, so that the errors of the codec, different in each, cancel.
    Frequencies above BAND count little: c40 keeps nothing of them.

    Args:
        raw, compressed: (N, S, S, 3) uint8, the same frames.

    Returns:
        (dx, dy) in pixels, positive where ``compressed`` lies to the right or below.

    Source: Kuglin and Hines, "The phase correlation image alignment method", 1975.
    """
    side = raw.shape[1]
    window = cv2.createHanningWindow((side, side), cv2.CV_64F)
    one, other = (np.fft.rfft2((c.mean(3) - c.mean((1, 2, 3))[:, None, None]) * window) for c in (raw, compressed))
    cross = one.conj() * other
    cross = (cross / (np.abs(cross) + 1e-9)).mean(0)
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    surface = np.fft.irfft2(cross * np.exp(-(rows**2 + columns**2) / (2 * BAND**2)), (side, side))
    y, x = np.unravel_index(surface.argmax(), surface.shape)
    dy = y + _vertex(surface[[y - 1, y, (y + 1) % side], x])
    dx = x + _vertex(surface[y, [x - 1, x, (x + 1) % side]])
    return tuple(float((d + side / 2) % side - side / 2) for d in (dx, dy))


def _vertex(values: np.ndarray) -> float:
    """Where a bell through three neighbouring values has its top, relative to the middle one."""
    low, middle, high = np.log(np.maximum(values, 1e-12))
    return (low - high) / (2 * (low - 2 * middle + high)) if low < middle and high < middle else 0.0


def measure(out: str | Path, *, manipulation: str | None = None, crops: int = 16) -> pd.DataFrame:
    """Displacement of each quality against raw in a prepared folder.

    Args:
        out: a prepared folder.
        manipulation: measure this one only, or "original".
        crops: at most so many of a video are measured, spread over it.

    Returns:
        A row a video and quality other than raw: manipulation, video, quality, dx, dy (pixels of a crop), aligned (bool: the
        displacement is not longer than SHIFT).
    """
    table = read_manifest(out).query("crops > 0")
    if manipulation is not None:
        table = table[table["manipulation"] == manipulation]
    key, raw = ["manipulation", "video", "crops"], table["quality"] == "raw"
    table = table[~raw].merge(table.loc[raw, [*key, "path"]], on=key, suffixes=("", "_raw"))
    found = np.zeros((len(table), 2))
    for index, row in enumerate(table.itertuples()):
        chosen = np.unique(np.linspace(0, row.crops - 1, min(crops, row.crops)).round().astype(int))
        both = (np.load(Path(out) / path, mmap_mode="r")[chosen] for path in (row.path_raw, row.path))
        found[index] = shift(*both)
    table[["dx", "dy"]], table["aligned"] = found, np.hypot(*found.T) <= SHIFT
    return table[["manipulation", "video", "quality", "dx", "dy", "aligned"]]
