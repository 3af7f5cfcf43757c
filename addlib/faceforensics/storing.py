"""What a prepared folder is written with, by the one process at a time that may."""

import contextlib
import io
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from addlib.files import OutputError, write

LOCK, HOLDER = ".lock", ".lock.json"


class InUseError(RuntimeError):
    """Another process is writing the prepared folder."""


def npy(array):
    """The bytes of an array's .npy file. NumPy, writing to a file itself, does not say why it could not."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getbuffer()


def sweep(out):
    """Remove what killed processes left half-written. Only for the holder of the folder."""
    for part in Path(out).rglob(".*.part"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def held(out):
    """Be the only process that writes ``out``.

    The operating system gives the lock back when its holder ends, however it ends: no stale lock stays.
    Raises InUseError that names the holder if there is one, OutputError if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, blocking=False, is_singleton=False)
        lock.acquire()
    except Timeout:
        raise InUseError(f"{out} is being prepared by {_holder(out)}; wait for it, or choose another folder") from None
    except OSError as error:
        raise OutputError(
            error.errno, f"cannot write in {out}: {error.strerror or error}; choose another folder"
        ) from error
    try:
        sweep(out)
        me = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write(out / HOLDER, lambda file: file.write(json.dumps(me).encode()))
        yield
    finally:
        with contextlib.suppress(OSError):
            (out / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(out):
    try:
        found = json.loads((out / HOLDER).read_text())
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
