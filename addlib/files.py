"""Files that are there whole or not at all."""

import contextlib
import os
import uuid


class OutputError(OSError):
    """A file cannot be written."""


def write(path, fill):
    """Make a file through ``fill(file)``; it appears under its name when it is complete.

    path: where to; its folder is made. fill: called with a binary file to write to.
    Raises OutputError, with what to do, where the disk is full or not writable; nothing is left behind then.
    """
    part = path.with_name(f".{uuid.uuid4().hex[:16]}.part")  # short: the name itself may be as long as a name can be
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                fill(file)
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            error.errno, f"cannot write {path.name} in {path.parent}: {error.strerror or error}; what was finished is kept: "
            "free some space or choose another folder, then run the same again"
        ) from error  # fmt: skip
