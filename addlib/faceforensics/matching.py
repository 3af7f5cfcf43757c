"""Which frame of a quality shows the same moment as a frame of raw: by number or time, and whether the pictures agree."""

import cv2
import numpy as np

from addlib.clips import PictureClip, VideoClip
from addlib.video import VideoError

# A quality that lacks more of raw's frames than this is another cut of the video, not a copy with gaps.
SHARE = 0.9
THUMBNAIL = 96  # pixels of the longer side: coding noise averages out, a moved head does not
# At c40 a block may repeat the frame before, which makes neighbours look nearly as good (up to 1.1 times here); not so much.
CLEARLY = 1.5


def match(raw: VideoClip | PictureClip, other: VideoClip | PictureClip) -> tuple[dict[int, int], str]:
    """Frame numbers of ``other`` for those of ``raw``, and a note that is empty where all is ordinary.

    Two videos with as many frames are matched by number; with other counts by presentation time, to a quarter of raw's frame
    interval, from the same start or each from its own first frame. With extracted images on either side the number in the
    name decides.

    Raises:
        VideoError: with counts and reason, where fewer than SHARE of raw's frames have a partner, or images reach beyond the
            video that they should be of.
    """
    videos = [isinstance(clip, VideoClip) for clip in (raw, other)]
    if all(videos) and raw.total == other.total:
        return {number: number for number in range(raw.total)}, ""
    if all(videos):
        if raw.times is None or other.times is None:
            raise VideoError(
                f"{other.path} has {other.total} frames, raw has {raw.total}, and without times they cannot be aligned"
            )
        absolute = by_time(raw.times, other.times)
        relative = by_time(raw.times - raw.times[0], other.times - other.times[0])
        found, how = absolute if len(absolute) >= len(relative) else relative, "presentation time"
    else:
        if any(videos):
            video, images = (raw, other) if videos[0] else (other, raw)
            if images.total > video.total:
                raise VideoError(
                    f"{images.path} has an image of frame {images.total - 1}, {video.path} has {video.total} frames: "
                    "they would not stay aligned; extract the images again"
                )
        found, how = {number: number for number in np.intersect1d(raw.numbers, other.numbers).tolist()}, "frame number"
    if len(found) < SHARE * len(raw.numbers):
        raise VideoError(
            f"{other.path} has {len(other.numbers)} frames, raw has {len(raw.numbers)}; only {len(found)} agree in {how}: they would "
            "not stay aligned"
        )
    whole = how == "frame number" and len(found) == len(raw.numbers)
    return found, "" if whole else f"{len(found)} of {len(raw.numbers)} frames aligned by {how}"


def by_time(raw: np.ndarray, other: np.ndarray) -> dict[int, int]:
    """{index into raw: index into other} of times (ascending seconds) that agree to a quarter of raw's median interval, each once."""
    interval = float(np.median(np.diff(raw))) if len(raw) > 1 else 0.04
    after = np.searchsorted(other, raw).clip(0, len(other) - 1)
    before = (after - 1).clip(0)
    near = np.where(np.abs(other[before] - raw) <= np.abs(other[after] - raw), before, after)
    found, taken, error = {}, set(), np.abs(other[near] - raw)
    for index in np.argsort(error, kind="stable").tolist():
        if error[index] <= interval / 4 and int(near[index]) not in taken:
            found[index] = int(near[index])
            taken.add(found[index])
    return dict(sorted(found.items()))


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Luminance of an (H, W, 3) uint8 frame, (h, w) uint8, the longer side THUMBNAIL pixels."""
    height, width = (max(1, round(length * THUMBNAIL / max(frame.shape[:2]))) for length in frame.shape[:2])
    return cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)


def other_moment(thumbnails: dict[int, np.ndarray], raw: dict[int, np.ndarray]) -> int:
    """How many frames off a quality is, judged by its pictures: 0 where nothing speaks against the pairing.

    A frame votes if another raw frame is nearer to it than its partner by the factor CLEARLY in squared difference. If a quarter
    of the frames do, the median of their offsets is returned (at least 1 or at most -1). In a still scene frames cannot be told
    apart, and a shift does no harm.

    Args:
        thumbnails: {raw frame number: (h, w) uint8} of the quality's frames.
        raw: the same of raw's, with more numbers to compare with, such as each one's neighbours.
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
