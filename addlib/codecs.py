"""What may happen to a video on its way to a detector: codecs, image formats, rescaling, chains of them. Frames in, frames out.

A condition is written as what is done, step by step::

    "h264 40"                       H.264 at the constant rate factor 40, with the encoder settings of the data sets
    "h265 38", "vp9 63", "av1 63"   other codecs at a constant quality, each on its own scale, 0 the best
    "jpeg 75", "webp 30"            each frame by itself, at a quality from 1 to 100, the best
    "half > h264 23"                halved in both directions and enlarged again, then encoded
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext

from . import video

# What the book measures. On MiniForensics H.265, VP9 and AV1 take about the rate of "h264 23" here, and that of "h264 40".
CONDITIONS = (
    "h264 23", "h264 30", "h264 35", "h264 40", "h264 45", "h265 24", "h265 38", "vp9 40", "vp9 63", "av1 38", "av1 63",
    "jpeg 75", "jpeg 30", "webp 75", "webp 30", "half > h264 23", "h264 23 > half > h264 40",
)  # fmt: skip


class Codec(NamedTuple):
    """FFmpeg's name of an encoder, the end of its scale of constant qualities, and its options besides the quality."""

    encoder: str
    worst: int
    options: dict = {}


# One thread each, so that the same frames give the same bytes on any number of cores.
CODECS = {
    "h264": Codec("libx264", 51),
    "h265": Codec("libx265", 51, {"x265-params": "log-level=error:pools=none:frame-threads=1"}),
    "vp9": Codec("libvpx-vp9", 63, {"b": "0", "cpu-used": "2"}),
    "av1": Codec("libsvtav1", 63, {"preset": "6", "svtav1-params": "lp=1"}),
}
IMAGES = {"jpeg": (".jpg", cv2.IMWRITE_JPEG_QUALITY), "webp": (".webp", cv2.IMWRITE_WEBP_QUALITY)}
# By the decoder's name, the types of the units of a stream in which the encoder describes itself, and no picture is.
REMARKS = {"h264": "6", "hevc": "39-40"}


class Recoded(NamedTuple):
    """frames: {number: (H, W, 3) uint8 RGB}, ascending. kbits: kilobits a second of the last coding; NaN if nothing was coded."""

    frames: dict
    kbits: float


def parse(condition: str) -> tuple[tuple[str, int | None], ...]:
    """The steps of a condition, (name, quality) each; the quality of "half" is None.

    Raises:
        ValueError: a step does not exist, or a quality is not on its scale.
    """
    scales = {name: (0, codec.worst) for name, codec in CODECS.items()} | dict.fromkeys(IMAGES, (1, 100))
    steps = []
    for text in map(str.strip, condition.split(">")):
        name, _, quality = text.partition(" ")
        low, high = scales.get(name, (1, 0))
        if text != "half" and not (quality.isdecimal() and low <= int(quality) <= high):
            known = ", ".join(f"{name} {low}..{high}" for name, (low, high) in scales.items())
            raise ValueError(f"condition {condition!r}: step {text!r} is none of half, {known}; join steps by ' > '")
        steps.append((name, int(quality) if quality else None))
    return tuple(steps)


def missing(conditions: Iterable[str] = CONDITIONS) -> dict[str, str]:
    """{condition: reason} of those that cannot be made here, because PyAV lacks an encoder. Raises as ``parse``."""
    lacking = {}
    for condition in conditions:
        for encoder in [CODECS[name].encoder for name, _ in parse(condition) if name in CODECS]:
            if encoder not in av.codecs_available:
                lacking[condition] = f"PyAV {av.__version__} has no encoder {encoder}; install a PyAV that has it"
    return lacking


def recode(
    frames: Iterable[np.ndarray], condition: str, *, fps: float = 25.0, wanted: Iterable[int] | None = None
) -> Recoded:
    """Send the frames of a whole video through a condition.

    Codecs halve the resolution of colour, so an odd side is continued by a pixel, and cut again in the end.

    Args:
        frames: (H, W, 3) uint8 RGB of one size, taken one by one: a long video need not fit into the memory.
        condition: see the top of this module.
        wanted: numbers of the frames to return, from 0; None: all.

    Raises:
        ValueError: the condition cannot be made here, the frames cannot be encoded, or not as many come back.
    """
    steps, wanted = parse(condition), None if wanted is None else set(wanted)
    for reason in missing([condition]).values():
        raise ValueError(f"condition {condition!r}: {reason}")
    video.check_rate(fps)
    given, sizes, kept, count = [], [], {}, 0  # sizes: bytes of the last coding
    with tempfile.TemporaryDirectory(prefix="addlib-") as folder:
        frames = _even(frames, given)
        for step, (name, quality) in enumerate(steps):
            if name == "half":
                frames = map(_half, frames)
            elif name in IMAGES:
                sizes = []
                frames = _as_images(frames, name, quality, sizes)
            else:
                path = Path(folder, f"{step}.mp4")
                _write(path, frames, name, quality, fps)
                frames, sizes = video.read_frames(path), [payload(path)]
        for count, frame in enumerate(frames, 1):
            if wanted is None or count - 1 in wanted:
                kept[count - 1] = frame[: given[0][0], : given[0][1]]
    if not count or count != len(given):
        raise ValueError(f"condition {condition!r} returned {count} of {len(given)} frames")
    if absent := sorted((wanted or set()) - kept.keys()):
        raise ValueError(f"wanted are {absent[:3]}; there are frames 0 to {count - 1}")
    return Recoded(kept, 8 * sum(sizes) * fps / 1000 / count if sizes else float("nan"))


def payload(path: str | Path) -> int:
    """Bytes of the coded pictures in a video file, without the container and what the encoder says about itself."""
    with video.opened(path) as (container, stream):
        packets = container.demux(stream)
        if types := REMARKS.get(stream.codec_context.name):
            strip = BitStreamFilterContext(f"filter_units=remove_types={types}", stream)
            packets = (part for packet in packets for part in strip.filter(packet))
        return sum(packet.size for packet in packets)


def _even(frames, given):
    """The frames with even sides; the size of each goes to ``given``."""
    for index, frame in enumerate(frames):
        frame = video.checked(frame, index, *given[:1])
        height, width = frame.shape[:2]
        given.append((height, width))
        yield np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")


def _half(frame):
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _as_images(frames, name, quality, sizes):
    """The frames, each coded as an image and decoded; the bytes of each go to ``sizes``."""
    suffix, setting = IMAGES[name]
    for frame in frames:
        _, coded = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [setting, quality])
        sizes.append(coded.size)
        yield cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _write(path, frames, name, quality, fps):
    """A video file of the frames, encoded on one thread at a constant quality."""
    if name == "h264":
        return video.write_video(path, frames, quality, fps)
    encoder, _, options = CODECS[name]
    quiet = {"SVT_LOG": os.environ.get("SVT_LOG", "1")}  # else SVT-AV1 describes itself, whatever FFmpeg's level
    try:
        with patch.dict(os.environ, quiet):
            video.encode(str(path), "mp4", encoder, frames, fps, "yuv420p", {"crf": f"{quality}"} | options)
    except av.FFmpegError as error:
        raise ValueError(f"{encoder} does not take these frames at {fps:g} a second: {error}") from error
