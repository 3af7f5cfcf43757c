"""Which frame of a quality shows the same moment as a frame of raw: by number or time, and whether the pictures agree."""

import cv2
import numpy as np

from addlib.clips import PictureClip, VideoClip
from addlib.video import VideoError

Clip = VideoClip | PictureClip
# A quality that lacks more of raw's frames than this is another cut of the video, not a copy with gaps.
SHARE = 0.9
THUMBNAIL = 96  # pixels of a side: coding noise averages out, a moved head does not
# At c40 a block may repeat the frame before, which makes neighbours look nearly as good (up to 1.1 times here); not so much.
CLEARLY = 1.5


def match(raw: Clip, other: Clip) -> tuple[dict[int, int], str]:
    """Frame numbers of ``other`` for those of ``raw``, and a note that is empty where all is ordinary; else VideoError.

    Images, and two videos with as many frames, are matched by number; other videos by presentation time, to a quarter of
    raw's frame interval, from the same start or each from its own first frame.
    """
    count, how = len(raw.numbers), "frame number"
    images = [clip for clip in (raw, other) if isinstance(clip, PictureClip)]
    if images or raw.total == other.total:
        if len(images) == 1 and (last := images[0].total - 1) >= (length := min(raw.total, other.total)):
            reach = f"has an image of frame {last}, the video beside it {length} frames; extract the images again"
            raise VideoError(f"{images[0].path} {reach}")
        found = {number: number for number in np.intersect1d(raw.numbers, other.numbers).tolist()}
    elif raw.times is None or other.times is None:
        raise VideoError(f"{other.path} has {other.total} frames, raw has {count}: they do not align without times")
    else:
        how = "presentation time"
        absolute = by_time(raw.times, other.times)
        found = max(absolute, by_time(raw.times - raw.times[0], other.times - other.times[0]), key=len)
    if len(found) < SHARE * count:
        agree = f"only {len(found)} agree in {how}: they would not stay aligned"
        raise VideoError(f"{other.path} has {len(other.numbers)} frames, raw has {count}; {agree}")
    whole = how == "frame number" and len(found) == count
    return found, "" if whole else f"{len(found)} of {count} frames aligned by {how}"


def by_time(raw: np.ndarray, other: np.ndarray) -> dict[int, int]:
    """{index into raw: index into other} of ascending seconds that agree to a quarter of raw's median interval, each once."""
    interval = float(np.median(np.diff(raw))) if len(raw) > 1 else 0.04
    after = np.searchsorted(other, raw).clip(0, len(other) - 1)
    before = (after - 1).clip(0)
    near = np.where(np.abs(other[before] - raw) <= np.abs(other[after] - raw), before, after)
    error = np.abs(other[near] - raw)
    nearest_first = np.argsort(error, kind="stable")
    nearest_first = nearest_first[error[nearest_first] <= interval / 4]
    _, once = np.unique(near[nearest_first], return_index=True)
    return {index: int(near[index]) for index in np.sort(nearest_first[once]).tolist()}


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Luminance of an (H, W, 3) uint8 frame, small: (THUMBNAIL, THUMBNAIL) uint8."""
    return cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def other_moment(thumbnails: dict[int, np.ndarray], raw: dict[int, np.ndarray]) -> int:
    """How many frames off a quality is, judged by thumbnails {raw frame number: (h, w) uint8}, raw's with the neighbours'.

    A frame votes if another raw frame is nearer to it than its partner by the factor CLEARLY in squared difference. If a
    quarter of the frames do, the median of their offsets is returned, else 0. In a still scene a shift does no harm.
    """
    numbers = np.array(sorted(raw))
    pictures = np.stack([raw[number] for number in numbers.tolist()]).astype(np.float32)
    votes = []
    for number, picture in thumbnails.items():
        error = np.square(pictures - picture).mean((1, 2))
        own, best = error[np.searchsorted(numbers, number)], int(error.argmin())
        if own > CLEARLY * error[best] and own - error[best] > 1.0:
            votes.append(numbers[best] - number)
    return (int(np.median(votes)) or int(votes[0])) if votes and 4 * len(votes) >= len(thumbnails) else 0
