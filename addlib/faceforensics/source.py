"""One video as numbered frames, from a file or from a folder of images that somebody extracted before."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from .. import reading
from ..reading import VideoError

IMAGES = (".png", ".jpg", ".jpeg")


def open_source(path):
    """A VideoSource or ImageSource of what is at ``path``.

    Raises FileNotFoundError if nothing is there, VideoError if it holds no frames that can be read.
    """
    path = Path(path)
    return ImageSource(path) if path.is_dir() else VideoSource(path)


def stamp(path):
    """What changes when a source is replaced: sizes and times of its files, or None if they cannot be asked."""
    try:
        if Path(path).is_dir():
            with os.scandir(path) as entries:
                states = [entry.stat() for entry in entries]
            return [len(states), sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)]
        state = os.stat(path)
        return [state.st_size, state.st_mtime_ns]
    except OSError:
        return None


class VideoSource:
    """Frames of a video file, numbered in presentation order.

    numbers: all frame numbers, ascending. times: seconds of each, or None. size: (height, width). total: numbers run below it.
    """

    def __init__(self, path):
        self.path, self.when = path, reading.timeline(path)
        self.total, self.times, self.size = self.when.count, self.when.times, self.when.size
        self.numbers = np.arange(self.total)

    def pictures(self, wanted):
        """Yield (number, picture) of the wanted frames, ascending; a picture has ``rgb()`` and ``thumbnail(side)``."""
        return reading.pictures(self.path, self.when, wanted)

    def sha256(self):
        """Of the file's bytes, read in pieces."""
        return _sha256(self.path)


class ImageSource:
    """A folder of images that are named by their frame number, such as 0000.png; numbers may be missing.

    The attributes are those of VideoSource; ``times`` is None, since images say nothing of time.
    """

    times = None

    def __init__(self, path):
        self.path = path
        found = {}
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in IMAGES and not file.name.startswith("."):
                if not file.stem.isdecimal():
                    raise VideoError(
                        f"{path} holds {file.name}; expected images named by frame number, such as 0000.png"
                    )
                if found.setdefault(int(file.stem), file) != file:
                    raise VideoError(
                        f"{path} holds frame {int(file.stem)} twice: {found[int(file.stem)].name}, {file.name}"
                    )
        if not found:
            raise VideoError(f"{path} holds no images; expected 0000.png, 0001.png, …")
        self._files = dict(sorted(found.items()))
        self.numbers = np.array(list(self._files))
        self.total = int(self.numbers[-1]) + 1
        self.size = _image_size(next(iter(self._files.values())))

    def pictures(self, wanted):
        """Yield (number, picture) of the wanted frames, ascending; a picture has ``rgb()`` and ``thumbnail(side)``."""
        for number in sorted(wanted):
            file = self._files.get(number)
            if file is None:
                raise VideoError(f"{self.path} holds no image of frame {number}")
            _image_size(file)
            pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
            if pixels is None:
                raise VideoError(f"{file} ({file.stat().st_size} bytes) cannot be decoded; extract it again")
            yield number, _Image(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))

    def sha256(self):
        """Of the names and hashes of all images."""
        lines = [f"{file.name} {_sha256(file)}" for file in self._files.values()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class _Image:
    def __init__(self, pixels):
        self._pixels = pixels

    def rgb(self):
        return self._pixels

    def thumbnail(self, side):
        height, width = reading.thumbnail_size(self._pixels.shape[:2], side)
        small = cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def _image_size(file):
    """(height, width) from the header, before a pixel is decoded."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise VideoError(
            f"{file} ({file.stat().st_size} bytes) cannot be decoded: {error}; extract it again"
        ) from error
    if height * width > reading.MAX_PIXELS:
        raise VideoError(f"{file} announces {width}×{height} pixels; at most {reading.MAX_PIXELS} are read")
    return height, width


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
