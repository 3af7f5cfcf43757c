"""Which frame of a quality shows the same moment as a frame of raw."""

import numpy as np

from ..reading import VideoError
from .source import VideoSource

# A quality that lacks more of raw's frames than this is another cut of the video, not a copy with gaps.
SHARE = 0.9


def match(raw, other):
    """Frame numbers of ``other`` for those of ``raw``: ({raw number: number}, note), the note empty where all is ordinary.

    raw, other: sources (see ``source``). Two videos with as many frames are matched by number; with other counts by
    presentation time, to a quarter of raw's frame interval, from the same start or each from its own first frame. With
    extracted images on either side the number in the name decides.
    Raises VideoError, with counts and reason, where fewer than SHARE of raw's frames have a partner, or images reach beyond the
    video that they should be of.
    """
    videos = [isinstance(source, VideoSource) for source in (raw, other)]
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


def by_time(raw, other):
    """{index into raw: index into other} of the times that agree to a quarter of raw's median interval, each used once.

    raw, other: ascending seconds.
    """
    interval = float(np.median(np.diff(raw))) if len(raw) > 1 else 0.04
    after = np.searchsorted(other, raw).clip(0, len(other) - 1)
    before = (after - 1).clip(0)
    near = np.where(np.abs(other[before] - raw) <= np.abs(other[after] - raw), before, after)
    found, error = {}, np.abs(other[near] - raw)
    for index in np.argsort(error, kind="stable").tolist():
        if error[index] <= interval / 4 and int(near[index]) not in found.values():
            found[index] = int(near[index])
    return dict(sorted(found.items()))
