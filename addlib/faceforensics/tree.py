"""The FaceForensics++ folder tree: where its videos are and what their names mean."""

import contextlib
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
EXPECTED = "FaceForensics++ has original_sequences/youtube/c23/videos/071.mp4 (or images/071/0000.png), and so on"


@dataclass(frozen=True)
class Video:
    """One video in all its qualities; ``files`` has the path of a video or a folder of images for each that is on disk."""

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
        """For each quality number, size and time of its files, which change when one is replaced; None for a dead link."""
        found = dict.fromkeys(self.files)
        for quality, path in self.files.items():
            with contextlib.suppress(OSError):
                states = [file.stat() for file in (path.iterdir() if path.is_dir() else [path])]
                sizes, times = [state.st_size for state in states], [state.st_mtime_ns for state in states]
                found[quality] = [len(states), sum(sizes), max(times, default=0)]
        return found

    def record(self, out: Path) -> Path:
        """Where a prepared folder keeps the settings, manifest rows and boxes of the video, as JSON."""
        return out / "records" / self.manipulation / f"{self.name}.json"


def identities(name: str) -> tuple[str, ...]:
    """Identities that a video's name holds: "071" → ("071",), "071_054__2" → ("071", "054"), target first; words do as well."""
    return tuple(part for part in name.split("__")[0].split("_") if part) or (name,)


def several(what: str, given: Iterable[str], known: Sequence[str] = ()) -> list[str]:
    """Names in a list, each once. Raises ValueError for a text, which would be taken letter by letter, and for an unknown one."""
    names = list(dict.fromkeys(given))
    if isinstance(given, str) or known and not set(names) <= set(known):
        raise ValueError(f"{what} is {given!r}; expected a list of {', '.join(known) or 'names'}")
    return names


def reals_of(manipulation: str) -> str:
    """Which real videos a manipulation was made from: "original", or "actors" for DeepFakeDetection."""
    return ACTORS if manipulation in WITHOUT_SPLIT else ORIGINAL


def discover(
    root: str | Path, manipulations: Iterable[str] | None = None, qualities: Sequence[str] = QUALITIES
) -> list[Video]:
    """List the videos of a tree, the real ones first, by manipulation and name; warns of files that are no videos.

    Args:
        manipulations: names of folders in manipulated_sequences; by default those of the paper's five that are there.
            With "DeepFakeDetection" (or "actors") come the real videos of the actors, with any other those of "youtube".
        qualities: out of "raw", "c23", "c40"; a folder "c0" is read as raw.

    Raises:
        FileNotFoundError, ValueError: for a missing folder; an unknown quality or manipulation, or a video that is there twice.
    """
    root = Path(root)
    qualities = several("qualities", qualities, tuple(FOLDERS))
    fake = root / "manipulated_sequences"
    present = [name for name in MANIPULATIONS if (fake / name).is_dir()]
    manipulations = present if manipulations is None else several("manipulations", manipulations)
    if unsafe := [name for name in manipulations if Path(name).name != name or name in ("", "..", ORIGINAL)]:
        raise ValueError(f"manipulations {unsafe} are no names of folders in {fake}; expected such as {MANIPULATIONS}")
    needed = {reals_of(name) for name in manipulations} or {ORIGINAL}
    folders = {name: root / "original_sequences" / REALS[name] for name in REALS if name in needed}
    folders |= {name: fake / name for name in manipulations if name not in REALS}
    videos, ignored = [], []
    for manipulation, folder in folders.items():
        if not folder.is_dir():
            there = [path.name for path in _visible(folder.parent)]
            raise FileNotFoundError(f"no folder {folder.name} in {folder.parent}, which holds {there}; {EXPECTED}")
        found: dict[str, dict[str, Path]] = {}
        for quality, alias in [(name, alias) for name in qualities for alias in FOLDERS[name]]:
            for path in _visible(folder / alias / "videos"):
                if path.suffix.lower() not in VIDEO_FILES:
                    ignored.append(path)
                    continue
                first = found.setdefault(path.stem, {}).setdefault(quality, path)
                if first != path and first.parent == path.parent:
                    raise ValueError(f"{path.parent} holds {first.name} and {path.name}; remove one of them")
            for path in _visible(folder / alias / "images"):
                if path.is_dir():  # taken where there is no video
                    found.setdefault(path.name, {}).setdefault(quality, path)
        if not found:
            raise FileNotFoundError(f"no videos or images in {folder}; {EXPECTED}")
        videos += [Video(manipulation, name, files) for name, files in sorted(found.items())]
    if ignored:
        warnings.warn(f"{len(ignored)} files are no videos and left out, such as {ignored[0]}", stacklevel=2)
    return videos


def _visible(folder: Path) -> list[Path]:
    # Names that begin with a dot are no videos: macOS and interrupted copies leave such files.
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
