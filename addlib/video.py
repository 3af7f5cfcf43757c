"""Frames in, H.264 out, at a constant rate factor (CRF), and back. PyAV with libx264.

FaceForensics++ publishes each video at CRF 0 (``raw``), 23 (``c23``) and 40 (``c40``). Here CRF 0 is written in RGB
(libx264rgb), which returns every pixel; any other factor is written in YUV with x264's defaults, only the factor set.
"""

import os
import uuid
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from .reading import VideoError, read_frames

__all__ = ["QUALITIES", "VideoError", "read_frames", "write_video"]

CPU_AVX2 = 11  # CV_CPU_AVX2 of OpenCV's interface.h, which its Python module does not name
QUALITIES = {"raw": 0, "c23": 23, "c40": 40}


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
