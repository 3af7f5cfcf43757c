"""Video files in and out: frames as a player shows them, and H.264 at a constant rate factor (CRF). PyAV.

FaceForensics++ publishes each video at CRF 0 (``raw``), 23 (``c23``) and 40 (``c40``). Here CRF 0 is written in RGB
(libx264rgb), which returns every pixel; any other factor is written in YUV with x264's defaults, only the factor set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideData

from .files import atomic_write

QUALITIES = {"raw": 0, "c23": 23, "c40": 40}
MAX_PIXELS = 7680 * 4320  # 8K: a header of a few bytes may announce frames that fill the memory
# A playlist or a script that is named like a video could make FFmpeg open other files, or the network: neither is listed.
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
Disposition = av.stream.Disposition


class VideoError(ValueError):
    """A file that holds no readable video or picture."""


def read_frames(path: str | Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, (H, W, 3) uint8 RGB, in presentation order and as a player shows them.

    Orientation, shape of the pixels, colour matrix and range are those that the file declares; of several video streams the
    default one is read, and never a cover picture. For pictures and folders of them see :func:`addlib.clips.open_clip`.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it cannot be opened, holds no film, has frames of more than ``MAX_PIXELS``, or breaks off.
    """
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield _shown(frame, stream, path)


class VideoClip:
    """The frames of a video file, numbered in presentation order. Raises as ``read_frames``, and for a file that is cut off.

    path, numbers: of the file, and of its frames from 0. total: how many. times: seconds at which each is shown, or None where
    the file does not tell. size: (height, width) as shown.
    """

    def __init__(self, path: str | Path):
        self.path, stamps, first, end = Path(path), [], None, 0.0
        with opened(path) as (container, stream):
            # Matroska does not say how large its parts are, but how long the whole is, sound included.
            announced = (container.duration or 0) / av.time_base if "matroska" in container.format.name else 0
            for packet in container.demux() if announced else container.demux(stream):
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is not stream:
                    continue
                if packet.is_corrupt:
                    raise VideoError(f"{path} breaks off; {AGAIN}")
                if packet.size and not packet.is_discard:
                    stamps.append(packet.pts)
                if first is None:
                    first = next(iter(packet.decode()), None)
            if first is None:
                raise VideoError(f"{path} holds no frame; {AGAIN}")
            if end < 0.95 * announced - 0.5:
                raise VideoError(f"{path} breaks off after {end:.1f} of {announced:.1f} seconds; {AGAIN}")
            self.size = _shown(first, stream, path).shape[:2]
            unit, reordered = stream.time_base, stream.codec_context.has_b_frames and len(stamps) > 2
        self.total, self.numbers = len(stamps), np.arange(len(stamps))
        self.times = self._number_of = None  # by time stamp
        if unit and None not in stamps and len(set(stamps)) == len(stamps):
            self.times = np.array([float(stamp * unit) for stamp in sorted(stamps)])
            # Stamps that ascend though frames are reordered count packets, as in AVI, and do not date frames.
            if not (reordered and stamps == sorted(stamps)):
                self._number_of = {stamp: number for number, stamp in enumerate(sorted(stamps))}

    def frames(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame) of some frames, ascending; only what they need is decoded, and nothing after the last of them.

        Raises:
            VideoError: a frame is damaged, or wanted and missing.
        """
        left, shown = set(wanted), -1
        if unknown := sorted(left.difference(range(self.total))):
            raise VideoError(f"{self.path} has frames 0 to {self.total - 1}, and none of {unknown[:3]}")
        with opened(self.path) as (container, stream):
            for packet in container.demux(stream):
                if not left:
                    return
                if self._number_of:
                    # Frames that no other refers to are not decoded unless they are wanted: the others stay the same.
                    idle = packet.size and self._number_of.get(packet.pts) not in left
                    stream.codec_context.skip_frame = "NONREF" if idle else "DEFAULT"
                for frame in packet.decode():
                    shown += 1
                    number = self._number_of.get(frame.pts) if self._number_of else shown
                    if frame.is_corrupt:  # wanted or not: the frames after it are made from it
                        raise VideoError(f"{self.path}: frame {number} is damaged; {AGAIN}")
                    if number in left:
                        left.discard(number)
                        yield number, _shown(frame, stream, self.path)
        if left:
            raise VideoError(
                f"{self.path} lacks {len(left)} of its {self.total} frames, the first {min(left)}; {AGAIN}"
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
        if stream is None and isinstance(error, av.ArgumentError):  # FFmpeg's answer to a container that is not listed
            reason = f"no kind of video that is read here (MP4, MKV, AVI, …); if it plays elsewhere, {CONVERT}"
        raise VideoError(f"{path} ({path.stat().st_size} bytes) cannot be decoded: {reason}") from error


def _film(path, container):
    """The default video stream of a container, else the largest; a cover picture is none."""
    films = [s for s in container.streams.video if s.codec_context and not s.disposition & Disposition.attached_pic]
    if not films:
        found = [stream.type for stream in container.streams]
        raise VideoError(f"{path} holds no video stream that is read, cover pictures aside (it has {found}); {CONVERT}")
    film = max(films, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.height * stream.width))
    height, width = _square_pixels(film)
    if not 0 < height * width <= MAX_PIXELS:
        raise VideoError(f"{path} announces frames of {width}×{height} pixels; 1 to {MAX_PIXELS} pixels are read")
    return film


def _square_pixels(stream, frame=None):
    """(height, width) in square pixels: pixels that are wider or higher than that are stretched, none are lost."""
    frame, ratio = frame or stream, stream.sample_aspect_ratio or 1
    return round(frame.height / min(ratio, 1)), round(frame.width * max(ratio, 1))


def _shown(frame, stream, path):
    """A decoded frame as a player shows it: (H, W, 3) uint8 RGB."""
    if frame.colorspace in RESERVED and not frame.format.name.startswith(("rgb", "bgr", "gbr")):
        frame.colorspace = UNSPECIFIED
    height, width = _square_pixels(stream, frame)
    try:  # on one thread: starting others takes longer than the work
        pixels = frame.reformat(width=width, height=height, format="rgb24", threads=1).to_ndarray()
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: colours of kind {frame.colorspace} are not read; {CONVERT}") from error
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return pixels
    # Nine int32; a pixel (x, y) is shown at (a x + c y, b x + d y). To the nearest quarter turn.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(int)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], crf: float, fps: float = 25.0, *, pixel_format: str = "yuv420p"
) -> None:
    """Write frames, (H, W, 3) uint8 RGB of one size, as an H.264 file; the same frames give the same bytes.

    Args:
        path: ends in .mp4, .mkv, .mov or .avi; its folder is made. The file appears when it is complete.
        crf: constant rate factor, 0 (lossless, kept in RGB) to 51, whole or fractional.
        pixel_format: for crf > 0, how x264 keeps colour: "yuv420p" (needs even H and W) or "yuv444p".

    Raises:
        ValueError: no frames, frames that do not fit the above, or a factor out of range.
        OutputError: the file cannot be written.
    """
    check_rate(fps)
    if not 0 <= crf <= 51:
        raise ValueError(f"crf is {crf}; H.264 takes 0 (lossless) to 51")
    encoder, options = "libx264", {"crf": f"{crf:g}"}
    if crf == 0:  # the fastest preset: the pixels are the same with each, only size and time differ
        encoder, pixel_format, options["preset"] = "libx264rgb", "rgb24", "ultrafast"
    if cv2.checkHardwareSupport(CPU_AVX2):
        # x264's AVX-512 code (build 165, in PyAV 18) reads memory that it has not written: the same frames give several
        # files, as tests/test_video.py shows. Code up to AVX2 does not, and gives the bytes of processors without AVX-512.
        options["x264-params"] = "asm=avx2"
    suffix = Path(path).suffix.lower()
    form = FORMATS.get(suffix, suffix[1:])
    atomic_write(Path(path), lambda file: encode(file, form, encoder, frames, fps, pixel_format, options))


def encode(file, form: str, encoder: str, frames, fps: float, pixel_format: str, options: dict) -> None:
    """Encode frames on one thread into a container of the format ``form``. Otherwise as :func:`write_video`."""
    stream = None
    with av.open(file, "w", format=form) as container:
        for index, frame in enumerate(frames):
            frame = checked(frame, index, stream and (stream.height, stream.width))
            if stream is None:
                height, width = frame.shape[:2]
                if pixel_format == "yuv420p" and (height % 2 or width % 2):
                    raise ValueError(f"frames are {(height, width)}; yuv420p needs even sides: crop, or use yuv444p")
                stream = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width, stream.pix_fmt, stream.options = height, width, pixel_format, options
                stream.codec_context.thread_count = 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is None:
            raise ValueError("no frames: a video needs at least one")
        container.mux(stream.encode(None))


def check_rate(fps: float) -> None:
    """Raise ValueError for a rate that files cannot hold."""
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps is {fps}; expected frames a second, 0.01 to 1000")


def checked(frame, index: int, first: tuple[int, int] | None = None) -> np.ndarray:
    """A frame as a contiguous array. Raises ValueError unless it is uint8 (H, W, 3), of the size of the first."""
    frame = np.ascontiguousarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"frame {index} is {frame.dtype} of shape {frame.shape}; expected uint8 (H, W, 3), RGB")
    if first and frame.shape[:2] != first:
        raise ValueError(f"frame {index} is {frame.shape[:2]}, the first was {first}; give frames of one size")
    return frame
