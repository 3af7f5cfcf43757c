"""Video files in and out: frames as a player shows them, and H.264 at a constant rate factor (CRF). PyAV.

FaceForensics++ publishes each video at CRF 0 (``raw``), 23 (``c23``) and 40 (``c40``). Here CRF 0 is written in RGB
(libx264rgb), which returns every pixel; any other factor is written in YUV with x264's defaults, only the factor set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideData

from .files import atomic_write

__all__ = [
    "MAX_PIXELS", "QUALITIES", "Orientation", "Picture", "Timeline", "VideoError", "pictures", "read_frames", "thumbnail_size",
    "timeline", "write_video",
]  # fmt: skip

QUALITIES = {"raw": 0, "c23": 23, "c40": 40}
# No more than 8K: a header of a few bytes may announce frames that fill the memory.
MAX_PIXELS = 7680 * 4320
# A playlist or a script in a video's clothes could make FFmpeg open other files, or the network: neither kind is on the list.
SAFELY = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,apng,h264,hevc,vvc,obu,ivf,"
    "mpegvideo,m4v,mjpeg,mxf,dv,nut,rm,yuv4mpegpipe",
}
FORMATS = {".mkv": "matroska", ".ts": "mpegts", "": "mp4"}
CONVERT = "convert it without loss, such as by 'ffmpeg -i FILE -c:v ffv1 -pix_fmt rgb24 FILE.mkv'"
AGAIN = "fetch or make it again"
CPU_AVX2 = 11  # CV_CPU_AVX2 of OpenCV's interface.h, which its Python module does not name
RESERVED, UNSPECIFIED = (0, 3), 2  # colour matrices as H.264 numbers them; 0 is RGB


class VideoError(ValueError):
    """A file that holds no readable video or picture."""


class Orientation(NamedTuple):
    """How stored pixels become the picture that is shown: rows and columns exchanged, then mirrored along x, along y."""

    turned: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes | None) -> Orientation:
        """That of a container's display matrix (9 × int32), to the nearest quarter turn."""
        if matrix is None:
            return cls()
        # A pixel (x, y) is shown at (a x + c y, b x + d y).
        (a, b), (c, d) = np.frombuffer(matrix, np.int32)[:9].reshape(3, 3)[:2, :2].astype(int)
        turned = abs(b) + abs(c) > abs(a) + abs(d)
        return cls(turned, *((c < 0, b < 0) if turned else (a < 0, d < 0)))

    @classmethod
    def of_exif(cls, number: int | None) -> Orientation:
        """That of a picture's EXIF tag 274: 1 (as stored) to 8; anything else counts as 1."""
        places = {2: (0, 1, 0), 3: (0, 1, 1), 4: (0, 0, 1), 5: (1, 0, 0), 6: (1, 1, 0), 7: (1, 1, 1), 8: (1, 0, 1)}
        return cls(*map(bool, places.get(number, (0, 0, 0))))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) as shown."""
        return (width, height) if self.turned else (height, width)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """The pixels (H, W, …) as shown."""
        if not any(self):
            return pixels
        pixels = pixels.swapaxes(0, 1) if self.turned else pixels
        return np.ascontiguousarray(pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1])


def read_frames(path: str | Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video in presentation order, as a player shows them.

    Orientation, shape of the pixels, colour matrix and range are those that the file declares; of several video streams the
    default one is read, and never a cover picture. Decoding on one thread gives the same frames anywhere.

    Args:
        path: video file. For pictures and folders of them see :func:`addlib.clips.open_clip`.

    Yields:
        (H, W, 3) uint8 RGB arrays.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it cannot be opened, holds no film, has frames of more than ``MAX_PIXELS``, or breaks off.
    """
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield Picture(frame, stream, path).rgb()


class Timeline(NamedTuple):
    """When a video's frames are shown, read from its packets.

    stamps: presentation time stamps in the stream's own unit, sorted, one a frame; None where the file dates no frames.
    times: seconds of each frame, an array, or None. size: (height, width) of the frames as shown.
    """

    stamps: list | None
    times: np.ndarray | None
    count: int
    size: tuple[int, int]


def timeline(path: str | Path) -> Timeline:
    """Timeline of a video; one frame is decoded, for its orientation.

    Raises:
        FileNotFoundError, VideoError: as ``read_frames``; also for a file that is cut off or holds no frame.
    """
    path, packets, first = Path(path), [], None
    with opened(path) as (container, stream):
        for packet in container.demux(stream):
            if first is None:
                with contextlib.suppress(av.FFmpegError):  # whoever wants this frame will hear of it
                    first = next(iter(packet.decode()), None)
            if packet.size and not packet.is_discard:
                packets.append(packet)
        if any(packet.is_corrupt for packet in packets):
            raise VideoError(f"{path} ({path.stat().st_size} bytes) breaks off; {AGAIN}")
        if not packets:
            raise VideoError(f"{path} ({path.stat().st_size} bytes) holds no frame; {AGAIN}")
        stamps, unit = [packet.pts for packet in packets], stream.time_base
        size = _shown(stream.height, stream.width, stream)
        if first is not None:
            size = Picture(first, stream, path).size
        # In the order of decoding, where other frames come first that are shown later: AVI counts packets, it does not date frames.
        undated = stream.codec_context.has_b_frames and len(stamps) > 2
    if None in stamps or unit is None or len(set(stamps)) < len(stamps):
        return Timeline(None, None, len(stamps), size)
    times = np.array([float(stamp * unit) for stamp in sorted(stamps)])
    return Timeline(None if undated and stamps == sorted(stamps) else sorted(stamps), times, len(stamps), size)


class Picture:
    """A decoded frame; it becomes an array, as a player shows it, when one is asked for."""

    def __init__(self, frame, stream, path):
        self._frame, self._path = frame, path
        if frame.colorspace in RESERVED and not frame.format.name.startswith(("rgb", "bgr", "gbr")):
            frame.colorspace = UNSPECIFIED
        self._orientation = Orientation.of_matrix(frame.side_data.get(SideData.DISPLAYMATRIX))
        self._height, self._width = _shown(frame.height, frame.width, stream)
        self.size = self._orientation.size(self._height, self._width)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self._array(self._height, self._width)

    def thumbnail(self, side: int) -> np.ndarray:
        """Luminance, (h, w) uint8 with the longer side scaled to ``side`` pixels."""
        small = self._array(*thumbnail_size((self._height, self._width), side), interpolation="AREA")
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)

    def _array(self, height, width, **options):
        try:
            # On one thread: starting others takes longer than the work.
            frame = self._frame.reformat(width=width, height=height, format="rgb24", threads=1, **options)
            return self._orientation.apply(frame.to_ndarray())
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: colours of kind {self._frame.colorspace} are not read; {CONVERT}") from error


def thumbnail_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of a thumbnail whose longer side is ``side``, at least a pixel each."""
    return tuple(max(1, round(length * side / max(size))) for length in size)


def pictures(path: str | Path, when: Timeline, wanted: Iterable[int]) -> Iterator[tuple[int, Picture]]:
    """Yield some frames in presentation order; only what they need is decoded, and nothing after the last of them.

    Args:
        path: video file.
        when: its ``timeline``.
        wanted: frame numbers from 0.

    Yields:
        (number, Picture).

    Raises:
        FileNotFoundError, VideoError: as ``read_frames``; also for a frame that is damaged, or wanted and missing.
    """
    path, left = Path(path), set(wanted)
    number_of = None if when.stamps is None else {stamp: number for number, stamp in enumerate(when.stamps)}
    with opened(path) as (container, stream):
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
                    raise VideoError(f"{path}: frame {number} is damaged; {AGAIN}")
                if number in left:
                    left.discard(number)
                    yield number, Picture(frame, stream, path)
    if left:
        raise VideoError(
            f"{path} announces {when.count} frames and does not give {len(left)} of them, the first {min(left)}; {AGAIN}"
        )


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[tuple]:
    """(container, stream of the film), decoding on one thread and within MAX_PIXELS; FFmpeg's errors become VideoError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}{', which is a folder' if path.is_dir() else ''}")
    stream = None
    try:
        # With "file:" in front no name, whatever colons it has, is taken for another protocol.
        with av.open(f"file:{path}", container_options=SAFELY, metadata_errors="replace") as container:
            stream = _film(path, container)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream
    except (av.FFmpegError, UnicodeDecodeError) as error:
        reason = f"{getattr(error, 'strerror', None) or error}; {AGAIN}"
        if stream is None and isinstance(error, av.ArgumentError):  # FFmpeg's answer to a container that is not on the list
            reason = f"no kind of video that is read here (MP4, MOV, MKV, WebM, AVI, …); if it plays elsewhere, {CONVERT}"
        raise VideoError(f"{path} ({path.stat().st_size} bytes) cannot be decoded: {reason}") from error


def _film(path, container):
    """The default video stream of a container, else the largest; a cover picture is none."""
    films = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
    if not films:
        found = [stream.type for stream in container.streams]
        raise VideoError(f"{path} holds no video stream{' but a cover picture' if 'video' in found else ''} (it has {found})")
    films = [stream for stream in films if stream.codec_context is not None]
    if not films:
        raise VideoError(f"{path} is in a codec that nothing here reads; {CONVERT}")
    default = [stream for stream in films if stream.disposition & av.stream.Disposition.default]
    film = max(default or films, key=lambda stream: stream.height * stream.width)
    height, width = _shown(film.height, film.width, film)
    if not height * width:
        raise VideoError(f"{path} announces frames of no size; {AGAIN}")
    if height * width > MAX_PIXELS:
        raise VideoError(f"{path} announces frames of {width}×{height} pixels; at most {MAX_PIXELS} pixels are read")
    return film


def _shown(height, width, stream):
    """(height, width) in square pixels: pixels that are wider or higher than that are stretched, none are lost."""
    ratio = stream.sample_aspect_ratio or 1
    return (height, round(width * ratio)) if ratio >= 1 else (round(height / ratio), width)


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], crf: float, fps: float = 25.0, *, pixel_format: str = "yuv420p"
) -> None:
    """Write frames as an H.264 file; the same frames give the same bytes.

    CRF 0 uses x264's fastest preset: the pixels are the same with each preset, only size and time differ.

    Args:
        path: where to, ending in .mp4, .mkv, .mov or .avi; its folder is made. The file appears when it is complete.
        frames: (H, W, 3) uint8 RGB arrays of one size.
        crf: constant rate factor, 0 (lossless, kept in RGB) to 51. Whole or fractional.
        fps: frames a second.
        pixel_format: for crf > 0, how x264 keeps colour: "yuv420p" (needs even H and W) or "yuv444p".

    Raises:
        ValueError: no frames, frames of another shape or type, odd sides with yuv420p, or a factor out of range.
        OutputError: the file cannot be written.
    """
    if not 0 <= crf <= 51:
        raise ValueError(f"crf is {crf}; H.264 takes 0 (lossless) to 51")
    encoder, pixel_format = ("libx264rgb", "rgb24") if crf == 0 else ("libx264", pixel_format)
    options = {"crf": f"{crf:g}"} | _same_bytes_anywhere() | ({"preset": "ultrafast"} if crf == 0 else {})
    suffix = Path(path).suffix.lower()

    def fill(file):
        with av.open(file, "w", format=FORMATS.get(suffix, suffix[1:])) as container:
            encode(container, encoder, frames, fps, pixel_format, options)

    atomic_write(Path(path), fill)


def encode(container, encoder: str, frames, fps: float, pixel_format: str, options: dict) -> None:
    """Encode frames on one thread into an open container. Args and ValueError: as for :func:`write_video`."""
    stream = None
    for index, frame in enumerate(frames):
        frame = checked(frame, index, stream and (stream.height, stream.width))
        if stream is None:
            size = frame.shape[:2]
            if pixel_format == "yuv420p" and (size[0] % 2 or size[1] % 2):
                raise ValueError(
                    f"frames are {size}; yuv420p needs even sides: crop one row or column, or use yuv444p"
                )
            stream = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = size
            stream.pix_fmt, stream.options = pixel_format, options
            stream.codec_context.thread_count = 1
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    if stream is None:
        raise ValueError("no frames: a video needs at least one")
    container.mux(stream.encode(None))


def checked(frame, index: int, first: tuple[int, int] | None = None) -> np.ndarray:
    """A frame as a contiguous array. Raises ValueError unless it is uint8 (H, W, 3), of the size of the first."""
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"frame {index} is {frame.dtype} of shape {frame.shape}; expected uint8 (H, W, 3), RGB")
    if first and frame.shape[:2] != first:
        raise ValueError(f"frame {index} is {frame.shape[:2]}, the first was {first}; give frames of one size")
    return np.ascontiguousarray(frame)


def _same_bytes_anywhere():
    """x264's AVX-512 code (build 165, in PyAV 18) reads memory that it has not written: the same frames give several files.

    tests/test_video.py shows it. Up to AVX2 the code has no such fault, and gives the same bytes on processors without AVX-512.
    """
    return {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(CPU_AVX2) else {}
