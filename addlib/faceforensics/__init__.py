"""FaceForensics++ and every data set in its form: find the videos, split by identity, cut the faces, load the pairs."""

from addlib.files import InUseError, OutputError

from .tree import ACTORS, MANIPULATIONS, ORIGINAL, QUALITIES, discover

__all__ = [
    "ACTORS", "MANIPULATIONS", "ORIGINAL", "QUALITIES", "FacePairs", "InUseError", "OutputError", "data_hash",
    "discover", "prepare", "read_manifest", "verify",
]  # fmt: skip


def __getattr__(name: str):
    # Imported when asked for: a process that cuts faces needs no torch, and the hash of its code leaves out what reads crops.
    if name == "FacePairs":
        from .pairs import FacePairs as found
    elif name == "prepare":
        from .preparation import prepare as found
    elif name == "verify":
        from .alignment import verify as found
    elif name == "read_manifest":
        from .manifest import read_manifest as found
    elif name == "data_hash":
        from .manifest import data_hash as found
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
