"""The FaceForensics++ folder tree: where its videos are and what their names mean."""

import re
from dataclasses import dataclass
from pathlib import Path

ORIGINAL = "original"
MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
# No official split exists for these: they are only read when the user names them and brings a split.
WITHOUT_SPLIT = ("DeepFakeDetection",)
QUALITIES = ("raw", "c23", "c40")
FOLDERS = {"raw": ("raw", "c0"), "c23": ("c23",), "c40": ("c40",)}  # c0 is an older name of raw

_EXPECTED = "original_sequences/youtube/{raw,c23,c40}/videos/071.mp4 and manipulated_sequences/<manipulation>/{raw,c23,c40}/videos/071_054.mp4"


@dataclass(frozen=True)
class Video:
    """One video in all its qualities. ``files`` has a path for each quality that is on disk."""

    manipulation: str
    name: str
    files: dict

    @property
    def label(self):
        """1 for a fake, 0 for a real video."""
        return int(self.manipulation != ORIGINAL)

    @property
    def ids(self):
        """Identities in it: (a,) for a real one, (target, source) for a fake."""
        return identities(self.name)


def identities(name):
    """Identities that a video's name holds: "071" → ("071",), "071_054" → ("071", "054"), target first."""
    return tuple(re.findall(r"\d+", name.split("__")[0])) or (name,)


def _videos(folder, qualities):
    """{name: {quality: path}} of one sequence folder."""
    found = {}
    for quality in qualities:
        for alias in FOLDERS[quality]:
            for path in sorted((folder / alias / "videos").glob("*.mp4")):
                found.setdefault(path.stem, {}).setdefault(quality, path)
    return found


def discover(root, manipulations=None, qualities=QUALITIES):
    """List the videos under ``root``, the real ones first.

    root: folder that holds original_sequences and manipulated_sequences.
    manipulations: names of folders in manipulated_sequences; by default those of the paper's five that are there.
    qualities: out of "raw", "c23", "c40"; a folder "c0" is read as raw.
    Returns a list of Video, sorted by manipulation and name.
    Raises FileNotFoundError for a missing folder, ValueError for an unknown quality.
    """
    root = Path(root)
    unknown = [quality for quality in qualities if quality not in FOLDERS]
    if unknown:
        raise ValueError(f"unknown qualities {unknown}; expected some of {list(FOLDERS)}")
    real, fake = root / "original_sequences" / "youtube", root / "manipulated_sequences"
    if not real.is_dir():
        raise FileNotFoundError(f"{root} is no FaceForensics++ tree: {real} is missing; expected {_EXPECTED}")
    if manipulations is None:
        manipulations = [name for name in MANIPULATIONS if (fake / name).is_dir()]
    absent = [name for name in manipulations if not (fake / name).is_dir()]
    if absent:
        there = sorted(path.name for path in fake.iterdir() if path.is_dir()) if fake.is_dir() else []
        raise FileNotFoundError(f"no folder for {absent} in {fake}; it holds {there}")
    videos = []
    for name, folder in [(ORIGINAL, real)] + [(name, fake / name) for name in manipulations]:
        found = _videos(folder, qualities)
        if not found:
            raise FileNotFoundError(f"no .mp4 in {folder}/*/videos; expected {_EXPECTED}")
        videos += [Video(name, stem, files) for stem, files in sorted(found.items())]
    return videos
