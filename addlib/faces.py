"""Find the largest face and cut a square crop round it. dlib's HOG detector, OpenCV's resampling."""

from functools import cache

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom


@cache
def _detector():
    import dlib

    return dlib.get_frontal_face_detector()


def largest_face(frame: np.ndarray, *, upsample: int = 0, search: int | None = None) -> Box | None:
    """Box of the largest face that dlib's frontal detector finds, or None.

    Args, and what is raised: as for ``all_faces``. The box may reach over the frame's edge.
    """
    return next(iter(all_faces(frame, upsample=upsample, search=search)), None)


def all_faces(frame: np.ndarray, *, upsample: int = 0, search: int | None = None) -> list[Box]:
    """Boxes of the faces that dlib's frontal detector finds, the largest first.

    Source: King, "Dlib-ml: a machine learning toolkit", JMLR 10, 2009; the paper keeps the largest face as well.

    Args:
        frame: (H, W, 3) uint8 RGB.
        upsample: how often the frame is doubled before the search; 0 finds faces of about 80 pixels and more, 1 of 40 and
            more at four times the cost.
        search: frames whose shorter side is longer than this many pixels are searched on a luminance copy of that size
            (doubled ``upsample`` times), since a face fills about the same share of a frame however many pixels it has; None: never.

    Returns:
        (left, top, right, bottom) in pixels of the frame, right and bottom exclusive.

    Raises:
        ValueError: another type or shape, or a negative upsample.
    """
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frame is {frame.dtype} of shape {frame.shape}; expected uint8 (H, W, 3), RGB")
    if upsample < 0:
        raise ValueError(f"upsample is {upsample}; expected 0 (as it is) or how often the frame is doubled")
    factor = 1.0
    if search and min(frame.shape[:2]) > search:
        factor, upsample = search * 2**upsample / min(frame.shape[:2]), 0
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        frame = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None, fx=factor, fy=factor, interpolation=way)
    found = _detector()(np.ascontiguousarray(frame), upsample)
    # Equal areas happen with mirrored scenes: the position decides, so that the choice does not hang on dlib's order.
    found = sorted(found, key=lambda box: (-box.area(), box.left(), box.top()))
    boxes = [(box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box in found]
    return boxes if factor == 1.0 else [tuple(round(edge / factor) for edge in box) for box in boxes]


def square(box: Box, frame_size: tuple[int, int], scale: float = 1.3) -> tuple[int, int, int]:
    """The square round a box: its longer side times ``scale``, same centre, moved inside the frame and clipped to it.

    Source of the factor 1.3: the FaceForensics++ detector of Roessler et al., ICCV 2019.

    Args:
        box: (left, top, right, bottom).
        frame_size: (height, width).

    Returns:
        (left, top, side) in pixels.
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
    """Square crop round a face, resized: (size, size, 3) uint8.

    The same box on frames of the same size gives the same pixels' surroundings: that keeps raw, c23 and c40 aligned.

    Args:
        frame: (H, W, 3) uint8.
        box: as ``largest_face`` gives it.
        size: side of the result in pixels.
        scale: side of the square in lengths of the box.
    """
    x, y, side = square(box, frame.shape[:2], scale)
    cut = np.ascontiguousarray(frame[y : y + side, x : x + side])
    if side == size:
        return cut.copy()
    return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
