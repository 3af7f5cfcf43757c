"""The FaceForensics++ folder tree: where its videos are and what their names mean."""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ORIGINAL = "original"
ACTORS = "actors"
MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
# No official split exists for these: they are only read when the user names them and brings a split.
WITHOUT_SPLIT = ("DeepFakeDetection", ACTORS)
QUALITIES = ("raw", "c23", "c40")
FOLDERS = {"raw": ("raw", "c0"), "c23": ("c23",), "c40": ("c40",)}  # c0 is an older name of raw
REALS = {ORIGINAL: "youtube", ACTORS: "actors"}  # folders of original_sequences
VIDEO_FILES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")  # in small or capital letters

_EXPECTED = (
    "original_sequences/youtube/{raw,c23,c40}/videos/071.mp4 and "
    "manipulated_sequences/<manipulation>/{raw,c23,c40}/videos/071_054.mp4, or images/071/0000.png in place of videos/071.mp4"
)


@dataclass(frozen=True)
class Video:
    """One video in all its qualities. ``files`` has a path for each quality on disk: of a video or of a folder of images."""

    manipulation: str
    name: str
    files: dict[str, Path]

    @property
    def label(self) -> int:
        """1 for a fake, 0 for a real video."""
        return int(self.manipulation not in REALS)

    @property
    def ids(self) -> tuple[str, ...]:
        """Identities in it: (a,) for a real one, (target, source) for a fake."""
        return identities(self.name)

    def stamps(self) -> dict[str, list[int] | None]:
        """For each quality what changes when its file is replaced, sizes and times; None where they cannot be asked."""
        return {quality: _stamp(path) for quality, path in self.files.items()}


def _stamp(path: Path) -> list[int] | None:
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                states = [entry.stat() for entry in entries]
            return [len(states), sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)]
        state = os.stat(path)
        return [state.st_size, state.st_mtime_ns]
    except OSError:
        return None


def identities(name: str) -> tuple[str, ...]:
    """Identities that a video's name holds: "071" → ("071",), "071_054" → ("071", "054"), target first."""
    return tuple(re.findall(r"\d+", name.split("__")[0])) or (name,)


def reals_of(manipulation: str) -> str:
    """Which real videos a manipulation was made from: "original", or "actors" for DeepFakeDetection."""
    return ACTORS if manipulation in WITHOUT_SPLIT else ORIGINAL


def _visible(folder: Path) -> list[Path]:
    # Names that begin with a dot are no videos: macOS and interrupted copies leave such files.
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _videos(folder: Path, qualities: Sequence[str], ignored: list[Path]) -> dict[str, dict[str, Path]]:
    """{name: {quality: path}} of one sequence folder. Where a video is there as a file and as images, the file is taken."""
    found: dict[str, dict[str, Path]] = {}
    for quality in qualities:
        for alias in FOLDERS[quality]:
            taken: dict[str, Path] = {}
            for path in _visible(folder / alias / "videos"):
                if path.suffix.lower() not in VIDEO_FILES:
                    ignored.append(path)
                elif taken.setdefault(path.stem, path) != path:
                    raise ValueError(f"{path.parent} holds {taken[path.stem].name} and {path.name}; remove one of them")
            images = {path.name: path for path in _visible(folder / alias / "images") if path.is_dir()}
            for name, path in [*taken.items(), *images.items()]:
                found.setdefault(name, {}).setdefault(quality, path)
    return found


def discover(
    root: str | Path, manipulations: Iterable[str] | None = None, qualities: Sequence[str] = QUALITIES
) -> list[Video]:
    """List the videos under ``root``, the real ones first. Files that are no videos are left out with a warning.

    Args:
        root: folder that holds original_sequences and manipulated_sequences.
        manipulations: names of folders in manipulated_sequences; by default those of the paper's five that are there. With
            "DeepFakeDetection" (or "actors") come the real videos of the actors, with any other those of "youtube".
        qualities: out of "raw", "c23", "c40"; a folder "c0" is read as raw.

    Returns:
        Sorted by manipulation and name.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for an unknown quality, a manipulation that is no folder name, or a video that is there twice.
    """
    root = Path(root)
    unknown = [quality for quality in qualities if quality not in FOLDERS]
    if unknown:
        raise ValueError(f"unknown qualities {unknown}; expected some of {list(FOLDERS)}")
    fake = root / "manipulated_sequences"
    if manipulations is None:
        manipulations = [name for name in MANIPULATIONS if (fake / name).is_dir()]
    unsafe = [name for name in manipulations if not name or Path(name).name != name or name in (ORIGINAL, "..")]
    if unsafe:
        raise ValueError(f"manipulations {unsafe} are no names of folders in {fake}; expected such as {MANIPULATIONS}")
    needed = [name for name in REALS if name in {reals_of(name) for name in manipulations or [ORIGINAL]}]
    forged = [name for name in dict.fromkeys(manipulations) if name not in REALS]
    folders = [(name, root / "original_sequences" / REALS[name]) for name in needed]
    for _, folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{root} is no FaceForensics++ tree: {folder} is missing; expected {_EXPECTED}")
    absent = [name for name in forged if not (fake / name).is_dir()]
    if absent:
        there = sorted(path.name for path in fake.iterdir() if path.is_dir()) if fake.is_dir() else []
        raise FileNotFoundError(f"no folder for {absent} in {fake}; it holds {there}")
    videos, ignored = [], []
    for name, folder in folders + [(name, fake / name) for name in forged]:
        found = _videos(folder, qualities, ignored)
        if not found:
            raise FileNotFoundError(f"no videos or images in {folder}; expected {_EXPECTED}")
        videos += [Video(name, stem, files) for stem, files in sorted(found.items())]
    if ignored:
        warnings.warn(f"{len(ignored)} files are no videos and left out, such as {ignored[0]}", stacklevel=2)
    return videos
