"""Do two qualities show the same moment and the same place? Measured on their pixels, never on their names or counts."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from .manifest import read_manifest

THUMBNAIL = 96  # pixels of the longer side: coding noise averages out, a moved head does not
# At c40 a block may repeat the frame before, which makes neighbours look nearly as good (up to 1.1 times here); not so much.
CLEARLY = 1.5
SHIFT = 1.5  # pixels of a crop
BAND = 0.12  # cycles a pixel


def other_moment(thumbnails, raw):
    """How many frames off a quality is, judged by its pictures: 0 where nothing speaks against the pairing.

    thumbnails: {raw frame number: (h, w) uint8} of the quality's frames. raw: the same of raw's, with more numbers to compare
    with, such as each one's neighbours.
    A frame votes if another raw frame is nearer to it than its partner by the factor CLEARLY in squared difference. If a quarter
    of the frames do, the median of their offsets is returned (at least 1 or at most -1).
    In a still scene frames cannot be told apart, and a shift does no harm.
    """
    numbers = np.array(sorted(raw))
    there = np.stack([raw[number].ravel() for number in numbers.tolist()]).astype(np.float32)
    votes = []
    for number, picture in thumbnails.items():
        error = np.square(there - picture.ravel().astype(np.float32)).mean(1)
        own, best = error[np.searchsorted(numbers, number)], int(error.argmin())
        if own > CLEARLY * error[best] and own - error[best] > 1.0:
            votes.append(numbers[best] - number)
    if len(votes) * 4 < max(len(thumbnails), 1):
        return 0
    offset = int(np.median(votes))
    return offset or int(votes[0])


def shift(raw, compressed):
    """Displacement of crops against others by phase correlation.

    raw, compressed: (N, S, S, 3) uint8, the same frames; their normalised cross spectra are averaged, so that the errors of the
    codec, different in each, cancel. Frequencies above BAND count little: c40 keeps nothing of them.
    Returns (dx, dy) in pixels, positive where ``compressed`` lies to the right or below.
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


def _vertex(values):
    """Where a bell through three neighbouring values has its top, relative to the middle one."""
    low, middle, high = np.log(np.maximum(values, 1e-12))
    return (low - high) / (2 * (low - 2 * middle + high)) if low < middle and high < middle else 0.0


def measure(out, *, manipulation=None, crops=16):
    """Displacement of each quality against raw in a prepared folder.

    out: a prepared folder. manipulation: measure this one only, or "original". crops: at most so many of a video are measured, spread over it.
    Returns a DataFrame with a row a video and quality other than raw: manipulation, video, quality, dx, dy (pixels of a crop),
    aligned (bool: the displacement is not longer than SHIFT).
    A quality that keeps a video's face in place stays under SHIFT; a cut at another box does not, and is found.
    """
    table = read_manifest(out)
    if manipulation is not None:
        table = table[table["manipulation"] == manipulation]
    files = {(row.manipulation, row.video, row.quality): row for row in table.itertuples() if row.crops}
    rows = []
    for (manipulation, video, quality), row in files.items():
        partner = files.get((manipulation, video, "raw"))
        if quality == "raw" or partner is None or partner.crops != row.crops:
            continue
        chosen = np.unique(np.linspace(0, row.crops - 1, min(crops, row.crops)).round().astype(int))
        dx, dy = shift(*(np.load(Path(out) / item.path, mmap_mode="r")[chosen] for item in (partner, row)))
        rows.append((manipulation, video, quality, dx, dy, bool(np.hypot(dx, dy) <= SHIFT)))
    return pd.DataFrame(rows, columns=["manipulation", "video", "quality", "dx", "dy", "aligned"])
