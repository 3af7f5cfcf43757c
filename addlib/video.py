"""Frames in, H.264 out, at a constant rate factor (CRF), and back. PyAV with libx264.

FaceForensics++ publishes each video at CRF 0 (``raw``), 23 (``c23``) and 40 (``c40``). Here CRF 0 is written in RGB
(libx264rgb), which returns every pixel; any other factor is written in YUV with x264's defaults, only the factor set.
"""

import contextlib
import os
import uuid
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

CPU_AVX2 = 11  # CV_CPU_AVX2 of OpenCV's interface.h, which its Python module does not name
QUALITIES = {"raw": 0, "c23": 23, "c40": 40}


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
    Raises as ``read_frames`` does, and VideoError for a wanted frame that is damaged or missing. What lies after the last wanted
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
                if number in left:
                    if frame.is_corrupt:
                        raise VideoError(f"{path}: frame {number} is damaged; fetch or make it again")
                    left.discard(number)
                    yield number, Picture(frame)
    if left:
        raise VideoError(f"{path} announces {when.count} frames and does not give {len(left)} of them, frame {min(left)} first; fetch or make it again")


@contextlib.contextmanager
def _opened(path):
    """(container, first video stream), decoding on one thread and within MAX_PIXELS; FFmpeg's errors become VideoError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}")
    try:
        # With "file:" in front no name, whatever colons it has, is taken for another protocol.
        with av.open(f"file:{path}", container_options=SAFELY, timeout=None) as container:
            if not container.streams.video:
                raise VideoError(f"{path} holds no video stream (it has {[s.type for s in container.streams]})")
            stream = container.streams.video[0]
            if stream.height * stream.width > MAX_PIXELS:
                raise VideoError(
                    f"{path} announces frames of {stream.width}×{stream.height} pixels; at most {MAX_PIXELS} pixels are read"
                )
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream
    except av.FFmpegError as error:
        raise VideoError(
            f"{path} ({path.stat().st_size} bytes) cannot be decoded: {error.strerror}; fetch or make it again"
        ) from error


def write_video(path, frames, crf, fps=25.0, *, pixel_format="yuv420p"):
    """Write frames as an H.264 file; the same frames give the same bytes.

    path: where to; its folder is made. The file appears when it is complete.
    frames: iterable of (H, W, 3) uint8 RGB arrays of one size.
    crf: constant rate factor, 0 (lossless, kept in RGB) to 51. Whole or fractional.
    fps: frames a second.
    pixel_format: for crf > 0, how x264 keeps colour: "yuv420p" (needs even H and W) or "yuv444p".
    Raises ValueError for no frames, frames of another shape or type, odd sides with yuv420p, or a factor out of range.

    CRF 0 uses x264's fastest preset: the pixels are the same with each preset, only size and time differ.
    """
    if not 0 <= crf <= 51:
        raise ValueError(f"crf is {crf}; H.264 takes 0 (lossless) to 51")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix or '.mp4'}")
    lossless = crf == 0
    options = {"crf": f"{crf:g}"} | _same_bytes_anywhere() | ({"preset": "ultrafast"} if lossless else {})
    try:
        with av.open(str(part), "w") as container:
            stream = None
            for index, frame in enumerate(frames):
                frame = _checked(frame, index, stream, lossless or pixel_format == "yuv444p")
                if stream is None:
                    stream = container.add_stream(
                        "libx264rgb" if lossless else "libx264", rate=Fraction(fps).limit_denominator(1001)
                    )
                    stream.height, stream.width = frame.shape[:2]
                    stream.pix_fmt = "rgb24" if lossless else pixel_format
                    stream.options = options
                    stream.codec_context.thread_count = 1
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            if stream is None:
                raise ValueError(f"no frames for {path}: a video needs at least one")
            container.mux(stream.encode(None))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _same_bytes_anywhere():
    """x264's AVX-512 code (build 165, in PyAV 18) reads memory that it has not written: the same frames give several files.

    tests/test_video.py shows it. Up to AVX2 the code has no such fault, and gives the same bytes on processors without AVX-512.
    """
    return {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(CPU_AVX2) else {}


def _checked(frame, index, stream, any_side):
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"frame {index} is {frame.dtype} of shape {frame.shape}; expected uint8 (H, W, 3), RGB")
    if stream is not None and frame.shape[:2] != (stream.height, stream.width):
        raise ValueError(
            f"frame {index} is {frame.shape[:2]}, the first was {(stream.height, stream.width)}; give frames of one size"
        )
    if not any_side and (frame.shape[0] % 2 or frame.shape[1] % 2):
        raise ValueError(
            f"frame {index} is {frame.shape[:2]}; yuv420p needs even sides: crop one row or column, or use yuv444p"
        )
    return np.ascontiguousarray(frame)
