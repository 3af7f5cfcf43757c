"""FaceForensics++ and whatever is on disk like it: find the videos, split by identity, cut the faces, load the pairs."""

from importlib import import_module

from .manifest import data_hash, read_manifest, verify
from .preparation import prepare
from .storing import InUseError, OutputError
from .tree import ACTORS, MANIPULATIONS, ORIGINAL, QUALITIES, discover

__all__ = [
    "ACTORS", "MANIPULATIONS", "ORIGINAL", "QUALITIES", "FacePairs", "InUseError", "OutputError", "ResidentPairs", "batches",
    "data_hash", "discover", "flip_together", "prepare", "read_manifest", "verify",
]  # fmt: skip

_WITH_TORCH = {"FacePairs": "pairs", "flip_together": "pairs", "ResidentPairs": "resident", "batches": "drawing"}


def __getattr__(name):
    # torch is only imported where it is used: a process that cuts faces starts in a tenth of the time without it.
    if name in _WITH_TORCH:
        return getattr(import_module(f".{_WITH_TORCH[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
