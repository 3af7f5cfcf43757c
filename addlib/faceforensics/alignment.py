"""Are the crops those of the manifest, and do all qualities show the face in the same place?"""

import hashlib
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from .manifest import read_manifest

SHIFT = 1.5  # pixels of a crop
BAND = 0.12  # cycles a pixel


def shift(raw: np.ndarray, compressed: np.ndarray) -> tuple[float, float]:
    """Displacement (dx, dy) in pixels of crops, (N, S, S, 3) uint8, to the right of and below the same ones of raw.

    By phase correlation: the normalised cross spectra of the crops are averaged, so that the errors of the codec, different
    in each, cancel. Frequencies above BAND count little: c40 keeps nothing of them.

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
        manipulation: measure this one only, or "original".
        crops: at most so many of a video are measured, spread over it.

    Returns:
        A row a video and quality other than raw: manipulation, video, quality, dx, dy (pixels), aligned (at most SHIFT).
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


def verify(out: str | Path, *, alignment: bool = False) -> list[str]:
    """Compare crops with the manifest; a list of what is missing or changed, empty if all is well.

    alignment: also measure that c23 and c40 show the face where raw shows it (see ``alignment.measure``).
    """
    problems = []
    for row in read_manifest(out).query("crops > 0").itertuples():
        try:
            crops = np.load(Path(out) / row.path)
            if hashlib.sha256(crops.tobytes()).hexdigest() != row.crops_sha256 or len(crops) != row.crops:
                problems.append(f"{row.path}: changed since it was made")
        except FileNotFoundError:
            problems.append(f"{row.path}: missing")
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            problems.append(f"{row.path}: not readable ({error})")
    if alignment and not problems:
        problems = [
            f"{row.manipulation}/{row.quality}/{row.video}: lies ({row.dx:+.1f}, {row.dy:+.1f}) pixels beside raw, "
            f"expected at most {SHIFT:g}; another version of the video, or damaged"
            for row in measure(out).query("not aligned").itertuples()
        ]
    return problems
