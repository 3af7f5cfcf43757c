"""Frames of a video file, decoded the same way anywhere: all of them, or those that are wanted, by presentation time. PyAV."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

# No more than 8K: a header of a few bytes may announce frames that fill the memory.
MAX_PIXELS = 7680 * 4320
# A playlist or a script in a video's clothes could make FFmpeg open other files, or the network.
SAFELY = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf",
}


class VideoError(ValueError):
    """A file that holds no readable video."""


def read_frames(path):
    """Yield the frames of a video in presentation order.

    path: a file with one video stream or more; the first is read.
    Yields (H, W, 3) uint8 RGB arrays, decoded on one thread so that the same file gives the same frames anywhere.
    Raises FileNotFoundError if there is no such file, VideoError if it cannot be opened, holds no video stream, has frames
    of more than MAX_PIXELS, or breaks off while it is decoded.
    """
    with _opened(path) as (container, _):
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


@dataclass(frozen=True)
class Timeline:
    """When a video's frames are shown, read from its packets: nothing is decoded.

    stamps: presentation time stamps in the stream's own unit, sorted, one a frame; None where the file has none.
    times: the same in seconds, an array; size: (height, width) that the file announces.
    """

    stamps: list | None
    times: np.ndarray | None
    count: int
    size: tuple


def timeline(path):
    """Timeline of a video. Raises as ``read_frames`` does, and VideoError for a file that is cut off or holds no frame."""
    path = Path(path)
    with _opened(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        if any(packet.is_corrupt for packet in packets):
            raise VideoError(f"{path} ({path.stat().st_size} bytes) breaks off; fetch or make it again")
        if not packets:
            raise VideoError(f"{path} ({path.stat().st_size} bytes) holds no frame; fetch or make it again")
        stamps = [packet.pts for packet in packets]
        unit, size = stream.time_base, (stream.height, stream.width)
    if None in stamps or unit is None or len(set(stamps)) < len(stamps):
        return Timeline(None, None, len(stamps), size)
    stamps.sort()
    return Timeline(stamps, np.array([float(stamp * unit) for stamp in stamps]), len(stamps), size)


class Picture:
    """A decoded frame; it becomes an array when one is asked for."""

    def __init__(self, frame):
        self._frame = frame

    def rgb(self):
        """(H, W, 3) uint8."""
        return self._frame.to_ndarray(format="rgb24")

    def thumbnail(self, side):
        """Luminance, (h, w) uint8 with the longer side scaled to ``side`` pixels."""
        height, width = thumbnail_size((self._frame.height, self._frame.width), side)
        small = self._frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        return cv2.cvtColor(small.to_ndarray(), cv2.COLOR_RGB2GRAY)


def thumbnail_size(size, side):
    """(height, width) of a thumbnail whose longer side is ``side``, at least a pixel each."""
    return tuple(max(1, round(length * side / max(size))) for length in size)


def pictures(path, when, wanted):
    """Yield (number, Picture) of some frames in presentation order; only what they need is decoded.

    when: the Timeline of the file. wanted: frame numbers from 0.
    Raises as ``read_frames`` does, and VideoError for a frame that is damaged, or wanted and missing. What lies after the last wanted
    frame is not looked at.
    """
    path, left = Path(path), set(wanted)
    number_of = None if when.stamps is None else {stamp: number for number, stamp in enumerate(when.stamps)}
    with _opened(path) as (container, stream):
        context, shown = stream.codec_context, -1
        for packet in container.demux(stream):
            if not left:
                return
            if number_of is not None:
                # Frames that no other refers to are not decoded unless they are wanted: the others stay the same.
                idle = packet.size and number_of.get(packet.pts) not in left
                context.skip_frame = "NONREF" if idle else "DEFAULT"
            for frame in packet.decode():
                shown += 1
                number = shown if number_of is None else number_of.get(frame.pts)
                # Whether it is wanted or not: the frames after it are made from it.
                if frame.is_corrupt:
                    raise VideoError(f"{path}: frame {number} is damaged; fetch or make it again")
                if number in left:
                    left.discard(number)
                    yield number, Picture(frame)
    if left:
        raise VideoError(
            f"{path} announces {when.count} frames and does not give {len(left)} of them, the first {min(left)}; "
            "fetch or make it again"
        )


@contextlib.contextmanager
def _opened(path):
    """(container, first video stream), decoding on one thread and within MAX_PIXELS; FFmpeg's errors become VideoError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}")
    try:
        # With "file:" in front no name, whatever colons it has, is taken for another protocol.
        with av.open(f"file:{path}", container_options=SAFELY, metadata_errors="replace") as container:
            if not container.streams.video:
                raise VideoError(f"{path} holds no video stream (it has {[s.type for s in container.streams]})")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(f"{path} is in a codec that nothing here reads; fetch or make it again")
            if not stream.height * stream.width:
                raise VideoError(f"{path} announces frames of no size; fetch or make it again")
            if stream.height * stream.width > MAX_PIXELS:
                raise VideoError(
                    f"{path} announces frames of {stream.width}×{stream.height} pixels; at most {MAX_PIXELS} pixels are read"
                )
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream
    except (av.FFmpegError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(
            f"{path} ({path.stat().st_size} bytes) cannot be decoded: {reason}; fetch or make it again"
        ) from error
