"""FaceForensics++ and whatever is on disk like it: find the videos, split by identity, cut the faces, load the pairs."""

from .manifest import data_hash, read_manifest, verify
from .preparation import prepare
from .tree import MANIPULATIONS, ORIGINAL, QUALITIES, discover

__all__ = [
    "MANIPULATIONS", "ORIGINAL", "QUALITIES", "FacePairs", "data_hash", "discover", "flip_together", "prepare", "read_manifest", "verify",
]  # fmt: skip


def __getattr__(name):
    # torch is only imported where it is used: a process that cuts faces starts in a tenth of the time without it.
    if name in ("FacePairs", "flip_together"):
        from . import pairs

        return getattr(pairs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
