"""Find the largest face and cut a square crop round it. dlib's HOG detector, OpenCV's resampling."""

from functools import cache

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the frame, the last two exclusive


@cache
def _detector():
    import dlib

    return dlib.get_frontal_face_detector()


def largest_face(frame: np.ndarray, *, upsample: int = 0, search: int | None = None) -> Box | None:
    """Box of the largest face, or None; it may reach over the frame's edge. Args and ValueError: as for ``all_faces``."""
    return next(iter(all_faces(frame, upsample=upsample, search=search)), None)


def all_faces(frame: np.ndarray, *, upsample: int = 0, search: int | None = None) -> list[Box]:
    """Boxes of the faces that dlib's frontal detector finds, the largest first.

    Source: King, "Dlib-ml: a machine learning toolkit", JMLR 10, 2009; the paper keeps the largest face as well.

    Args:
        frame: (H, W, 3) uint8 RGB; anything else raises ValueError.
        upsample: how often the frame is doubled before the search; 0 finds faces of about 80 pixels and more, 1 of 40 and
            more at four times the cost.
        search: frames whose shorter side is longer than this many pixels are searched on a luminance copy of that size
            (doubled ``upsample`` times), since a face fills about the same share of a frame however many pixels it has; None: never.
    """
    frame = np.ascontiguousarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or upsample < 0:
        raise ValueError(f"frame {frame.dtype} {frame.shape}, upsample {upsample}; expected uint8 (H, W, 3), 0 or more")
    factor, short = 1, min(frame.shape[:2])
    if search and short > search:
        factor, upsample = search * 2**upsample / short, 0
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        frame = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None, fx=factor, fy=factor, interpolation=way)
    # Equal areas happen with mirrored scenes: the position decides, so that the choice does not hang on dlib's order.
    found = sorted(_detector()(frame, upsample), key=lambda box: (-box.area(), box.left(), box.top()))
    edges = [(box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box in found]
    return [tuple(round(edge / factor) for edge in box) for box in edges]


def square(box: Box, frame_size: tuple[int, int], scale: float = 1.3) -> tuple[int, int, int]:
    """The square (left, top, side) round a box, moved into a frame of (height, width) pixels and clipped where it is larger.

    Its side is ``scale`` times the box's longer side; 1.3 is the factor of Roessler et al., FaceForensics++, ICCV 2019.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise ValueError(f"box {box} is empty; expected left < right and top < bottom")
    height, width = frame_size
    side = min(round(max(right - left, bottom - top) * scale), height, width)
    x = min(max(round((left + right - side) / 2), 0), width - side)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    return x, y, side


def crop(frame: np.ndarray, box: Box, size: int = 128, scale: float = 1.3) -> np.ndarray:
    """The ``square`` round a face resized to (size, size, 3) uint8; one box for all qualities keeps their crops aligned."""
    x, y, side = square(box, frame.shape[:2], scale)
    cut = frame[y : y + side, x : x + side].copy()
    if side == size:
        return cut
    return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
