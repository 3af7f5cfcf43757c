"""The numbered frames of one video, from a file or from a folder of images that somebody extracted before."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from addlib import video
from addlib.video import VideoError

IMAGES = (".png", ".jpg", ".jpeg")


def open_frames(path: str | Path) -> "VideoFrames | ImageFrames":
    """The frames of what is at ``path``.

    Raises:
        FileNotFoundError: if nothing is there.
        VideoError: if it holds no frames that can be read.
    """
    path = Path(path)
    return ImageFrames(path) if path.is_dir() else VideoFrames(path)


class VideoFrames:
    """Frames of a video file, numbered in presentation order.

    Attributes:
        numbers: all frame numbers, ascending.
        total: numbers run below it.
        times: seconds of each frame, or None.
        size: (height, width).
    """

    def __init__(self, path: Path):
        self.path, self._timeline = path, video.timeline(path)
        self.total, self.times, self.size = self._timeline.count, self._timeline.times, self._timeline.size
        self.numbers = np.arange(self.total)

    def read(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, (H, W, 3) uint8 RGB) of the wanted frames, ascending."""
        for number, picture in video.pictures(self.path, self._timeline, wanted):
            yield number, picture.rgb()


class ImageFrames:
    """A folder of images that are named by their frame number, such as 0000.png; numbers may be missing.

    The attributes are those of VideoFrames; ``times`` is None, since images say nothing of time.
    """

    times = None

    def __init__(self, path: Path):
        self.path = path
        self._files = numbered_images(path)
        self.numbers = np.array(list(self._files))
        self.total = int(self.numbers[-1]) + 1
        self.size = _image_size(next(iter(self._files.values())))

    def read(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, (H, W, 3) uint8 RGB) of the wanted frames, ascending."""
        for number in sorted(wanted):
            file = self._files.get(number)
            if file is None:
                raise VideoError(f"{self.path} holds no image of frame {number}")
            _image_size(file)
            pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
            if pixels is None:
                raise VideoError(f"{file} ({file.stat().st_size} bytes) cannot be decoded; extract it again")
            yield number, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def numbered_images(path: Path) -> dict[int, Path]:
    """The images of a folder by frame number, ascending. Raises VideoError for other names, numbers that occur twice, or none."""
    found: dict[int, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() not in IMAGES or file.name.startswith("."):
            continue
        if not file.stem.isdecimal():
            raise VideoError(f"{path} holds {file.name}; expected images named by frame number, such as 0000.png")
        if found.setdefault(int(file.stem), file) != file:
            raise VideoError(f"{path} holds frame {int(file.stem)} twice: {found[int(file.stem)].name}, {file.name}")
    if not found:
        raise VideoError(f"{path} holds no images; expected 0000.png, 0001.png, …")
    return dict(sorted(found.items()))


def _image_size(file: Path) -> tuple[int, int]:
    """(height, width) from the header, before a pixel is decoded; as the image is shown, not as it lies in the file."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.format == "JPEG" and image.getexif().get(0x0112, 1) >= 5  # EXIF orientation: on its side
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise VideoError(
            f"{file} ({file.stat().st_size} bytes) cannot be decoded: {error}; extract it again"
        ) from error
    if height * width > video.MAX_PIXELS:
        raise VideoError(f"{file} announces {width}×{height} pixels; at most {video.MAX_PIXELS} are read")
    return (width, height) if turned else (height, width)


def sha256(path: Path) -> str:
    """Of a file's bytes, or of the names and hashes of a folder's images."""
    if path.is_dir():
        lines = [f"{file.name} {sha256(file)}" for file in numbered_images(path).values()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no regular file, or a link to nothing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
