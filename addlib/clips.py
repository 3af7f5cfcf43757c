"""Numbered frames, wherever they come from: a video file, a single picture, or a folder of pictures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from . import video
from .video import Orientation, VideoError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw")
SIGNS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")  # first bytes of pictures; "RIFF" needs a second look
EXIF_ORIENTATION = 274


def open_clip(path: str | Path, *, any_names: bool = False) -> VideoClip | PictureClip:
    """The frames at a path, upright and in square pixels.

    Args:
        path: video file, picture, or folder of pictures named by their frame number, such as 0000.png; numbers may be missing.
        any_names: take a folder of pictures with other names too, in the order of the numbers in them.

    Raises:
        FileNotFoundError: nothing is there.
        VideoError: it holds no frames that can be read; the message says what to do.
    """
    path = Path(path)
    if path.is_dir():
        return PictureClip(path, _numbered(path, any_names))
    if path.suffix.lower() in UNREAD:
        raise VideoError(f"{path} is a kind of picture that is not read; save it as PNG or JPEG")
    return PictureClip(path, {0: path}) if path.is_file() and _is_picture(path) else VideoClip(path)


class VideoClip:
    """Frames of a video file, numbered in presentation order.

    numbers: all frame numbers, ascending. times: seconds of each, or None. size: (height, width) as shown. total: numbers run below it.
    """

    def __init__(self, path):
        self.path, self.when = path, video.timeline(path)
        self.total, self.times, self.size = self.when.count, self.when.times, self.when.size
        self.numbers = np.arange(self.total)

    def pictures(self, wanted: Iterable[int]) -> Iterator[tuple]:
        """Yield (number, picture) of the wanted frames, ascending; a picture has ``rgb()`` and ``thumbnail(side)``."""
        return video.pictures(self.path, self.when, wanted)

    def sha256(self) -> str:
        """Of the file's bytes."""
        return _sha256(self.path)


class PictureClip:
    """A picture, or a folder of them. Attributes and methods: as of VideoClip; pictures say nothing of time."""

    times = None

    def __init__(self, path, files):
        self.path, self._files = path, dict(sorted(files.items()))
        self.numbers = np.array(list(self._files))
        self.total = int(self.numbers[-1]) + 1
        self.size = read_picture(self._files[self.numbers[0]], decode=False)

    def pictures(self, wanted):
        """As of VideoClip; every picture may have its own size."""
        for number in sorted(wanted):
            if number not in self._files:
                raise VideoError(f"{self.path} holds no picture of frame {number}")
            yield number, _Still(read_picture(self._files[number]))

    def sha256(self):
        """Of the names and hashes of all pictures."""
        lines = [f"{file.name} {_sha256(file)}" for file in self._files.values()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_picture(file: Path, *, decode: bool = True) -> np.ndarray | tuple[int, int]:
    """A picture as it is shown, turned as its EXIF data say: (H, W, 3) uint8 RGB; without ``decode`` only (H, W).

    Raises:
        VideoError: damaged, cut off, of more than ``video.MAX_PIXELS``, or several pictures in one file.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            (width, height), count = image.size, getattr(image, "n_frames", 1)
            if height * width > video.MAX_PIXELS:
                raise VideoError(f"{file} announces {width}×{height} pixels; at most {video.MAX_PIXELS} are read")
            if count > 1 and image.format != "MPO":  # in a camera's MPO the first is the picture, the others are previews
                raise VideoError(f"{file} holds {count} pictures; save each as a file of its own, 0000.png, 0001.png, …")
            orientation = Orientation.of_exif(image.getexif().get(EXIF_ORIENTATION))
            if not decode:
                return orientation.size(height, width)
            if image.mode.startswith("I;16"):
                return orientation.apply(np.stack([np.asarray(image) >> 8] * 3, -1).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise VideoError(f"{file} holds numbers of mode {image.mode}, no colours; save it as an 8-bit PNG")
            return orientation.apply(np.array(image.convert("RGB")))
    except VideoError:
        raise
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise VideoError(f"{file} ({file.stat().st_size} bytes) cannot be decoded: {error}; save it again") from error


class _Still:
    def __init__(self, pixels):
        self._pixels = pixels

    def rgb(self):
        return self._pixels

    def thumbnail(self, side):
        height, width = video.thumbnail_size(self._pixels.shape[:2], side)
        small = cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def _numbered(folder, any_names):
    """{frame number: file} of a folder of pictures."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    if unread := [file.name for file in files if file.suffix.lower() in UNREAD]:
        raise VideoError(f"{folder} holds {unread[0]}, a kind of picture that is not read; save it as PNG or JPEG")
    files = [file for file in files if file.suffix.lower() in PICTURES]
    if not files:
        raise VideoError(f"{folder} holds no pictures; expected 0000.png, 0001.png, …; name video files themselves")
    odd = next((file for file in files if not file.stem.isdecimal()), None)
    if odd and any_names:
        return dict(enumerate(sorted(files, key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])))
    if odd:
        raise VideoError(f"{folder} holds {odd.name}; expected pictures named by frame number, such as 0000.png")
    found = {}
    for file in files:
        if found.setdefault(int(file.stem), file) != file:
            raise VideoError(f"{folder} holds frame {int(file.stem)} twice: {found[int(file.stem)].name}, {file.name}")
    return found


def _is_picture(path):
    """By its first bytes, whatever its name; animated PNG and bare streams of JPEG pictures are videos."""
    with path.open("rb") as file:
        head = file.read(4096)
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return (head.startswith(SIGNS) or webp) and b"acTL" not in head and path.suffix.lower() not in (".mjpeg", ".mjpg")


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
