"""FaceForensics++ and every data set in its form: find the videos, split by identity, cut the faces, load the pairs."""

from addlib.files import InUseError, OutputError

from .tree import ACTORS, MANIPULATIONS, ORIGINAL, QUALITIES, discover

__all__ = [
    "ACTORS", "MANIPULATIONS", "ORIGINAL", "QUALITIES", "FacePairs", "InUseError", "OutputError", "data_hash", "discover", "prepare",
    "read_manifest", "verify",
]  # fmt: skip


def __getattr__(name: str):
    # Imported when asked for. A process that cuts faces starts without torch and pandas; and the hash of the cutting code, on
    # which crops depend, leaves out what only reads them.
    if name == "FacePairs":
        from .pairs import FacePairs

        return FacePairs
    if name == "prepare":
        from .preparation import prepare

        return prepare
    if name in ("data_hash", "read_manifest", "verify"):
        from . import manifest

        return getattr(manifest, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
