"""The FaceForensics++ folder tree: where its videos are and what their names mean."""

import re
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

_EXPECTED = (
    "original_sequences/youtube/{raw,c23,c40}/videos/071.mp4 and "
    "manipulated_sequences/<manipulation>/{raw,c23,c40}/videos/071_054.mp4, or images/071/0000.png in place of videos/071.mp4"
)


@dataclass(frozen=True)
class Video:
    """One video in all its qualities. ``files`` has a path for each quality on disk: of a video or of a folder of images."""

    manipulation: str
    name: str
    files: dict

    @property
    def label(self):
        """1 for a fake, 0 for a real video."""
        return int(self.manipulation not in REALS)

    @property
    def ids(self):
        """Identities in it: (a,) for a real one, (target, source) for a fake."""
        return identities(self.name)


def identities(name):
    """Identities that a video's name holds: "071" → ("071",), "071_054" → ("071", "054"), target first."""
    return tuple(re.findall(r"\d+", name.split("__")[0])) or (name,)


def reals_of(manipulation):
    """Which real videos a manipulation was made from: "original", or "actors" for DeepFakeDetection."""
    return ACTORS if manipulation in WITHOUT_SPLIT else ORIGINAL


def _videos(folder, qualities):
    """{name: {quality: path}} of one sequence folder. Where a video is there as a file and as images, the file is taken."""
    found = {}
    for quality in qualities:
        for alias in FOLDERS[quality]:
            videos, images = (folder / alias / kind for kind in ("videos", "images"))
            # Names that begin with a dot are no videos: macOS and interrupted copies leave such files.
            for path in sorted(videos.iterdir()) if videos.is_dir() else ():
                if path.suffix == ".mp4" and not path.name.startswith("."):
                    found.setdefault(path.stem, {}).setdefault(quality, path)
            for path in sorted(images.iterdir()) if images.is_dir() else ():
                if path.is_dir() and not path.name.startswith("."):
                    found.setdefault(path.name, {}).setdefault(quality, path)
    return found


def discover(root, manipulations=None, qualities=QUALITIES):
    """List the videos under ``root``, the real ones first.

    root: folder that holds original_sequences and manipulated_sequences.
    manipulations: names of folders in manipulated_sequences; by default those of the paper's five that are there. With
    "DeepFakeDetection" (or "actors") come the real videos of the actors, with any other those of "youtube".
    qualities: out of "raw", "c23", "c40"; a folder "c0" is read as raw.
    Returns a list of Video, sorted by manipulation and name.
    Raises FileNotFoundError for a missing folder, ValueError for an unknown quality or a manipulation that is no folder name.
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
    videos = []
    for name, folder in folders + [(name, fake / name) for name in forged]:
        found = _videos(folder, qualities)
        if not found:
            raise FileNotFoundError(f"no videos or images in {folder}; expected {_EXPECTED}")
        videos += [Video(name, stem, files) for stem, files in sorted(found.items())]
    return videos
