"""Numbered frames, wherever they come from: a video file, a single picture, or a folder of pictures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from . import video
from .video import VideoClip, VideoError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # as Pillow names them; it would start programs for some others
SIGNS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")  # first bytes of pictures; "RIFF" needs a second look


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
    files = _numbered(path, any_names) if path.is_dir() else {0: path}
    if unread := [file for file in files.values() if file.suffix.lower() in UNREAD]:
        raise VideoError(f"{unread[0]} is a kind of picture that is not read; save it as PNG or JPEG")
    return PictureClip(path, files) if path.is_dir() or (path.is_file() and _is_picture(path)) else VideoClip(path)


class PictureClip:
    """A picture, or a folder of them, each of its own size; ``size`` is that of the first. Otherwise as VideoClip."""

    times = None

    def __init__(self, path: Path, files: dict[int, Path]):
        self.path, self._files = path, dict(sorted(files.items()))
        self.numbers = np.array(list(self._files))
        self.total = int(self.numbers[-1]) + 1
        self.size = read_picture(self._files[self.numbers[0]]).shape[:2]

    def frames(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """As of VideoClip."""
        for number in sorted(wanted):
            if number not in self._files:
                raise VideoError(f"{self.path} holds no picture of frame {number}")
            yield number, read_picture(self._files[number])

    def sha256(self) -> str:
        """Of the names and hashes of all pictures."""
        lines = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in self._files.values()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_picture(file: Path) -> np.ndarray:
    """A picture as it is shown, turned as its EXIF data say: (H, W, 3) uint8 RGB.

    Raises:
        VideoError: damaged, cut off, of more than ``video.MAX_PIXELS``, or several pictures in one file.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > video.MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} pixels are more than {video.MAX_PIXELS}")
            # In a camera's MPO the first is the picture, the others are previews.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"it holds {image.n_frames} pictures")
            if image.mode in ("I", "F"):
                raise ValueError(f"it holds numbers of mode {image.mode}, no colours")
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                return np.stack([np.asarray(image) >> 8] * 3, -1).astype(np.uint8)
            return np.array(image.convert("RGB"))
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise VideoError(
            f"{file} cannot be decoded: {error}; save it anew as an 8-bit PNG, alone in its file"
        ) from error


def _numbered(folder, any_names):
    """{frame number: file} of a folder of pictures."""
    files = [file for file in sorted(folder.glob("[!.]*")) if file.suffix.lower() in PICTURES + UNREAD]
    if not files:
        raise VideoError(f"{folder} holds no pictures; expected 0000.png, 0001.png, …; name video files themselves")
    odd = [file.name for file in files if not file.stem.isdecimal()]
    if odd and any_names:
        return dict(enumerate(sorted(files, key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])))
    if odd:
        raise VideoError(f"{folder} holds {odd[0]}; expected pictures named by frame number, such as 0000.png")
    found = {int(file.stem): file for file in files}
    if twice := set(files) - set(found.values()):
        raise VideoError(f"{folder} holds frame {int(min(twice).stem)} twice, also as {min(twice).name}; remove one")
    return found


def _is_picture(path):
    """By its first bytes, whatever its name; animated PNG and bare streams of JPEG pictures are videos."""
    with path.open("rb") as file:
        head = file.read(4096)
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return (head.startswith(SIGNS) or webp) and b"acTL" not in head and path.suffix.lower() not in (".mjpeg", ".mjpg")
