"""Files that are there whole or not at all, written by one process at a time; and where the project lies."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

PART = f".{'[0-9a-f]' * 16}.part"  # names of files that are not complete, for glob


class OutputError(OSError):
    """A file or folder cannot be written."""


class InUseError(RuntimeError):
    """Another process writes there at the moment."""


def atomic_write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Make a file by ``fill(file)``, and missing folders; it appears when complete. Raises OutputError, leaving nothing behind."""
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex[:16]}.part")  # short: the name itself may be as long as a name can be
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            fill(file)
        os.replace(part, path)
    except OSError as error:
        remedy = "what was finished is kept: free some space or choose another folder, then run the same again"
        problem = f"cannot write {path.name} in {path.parent}: {error.strerror or error}; {remedy}"
        raise OutputError(error.errno, problem) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which one process of any user can at a time. The system takes it back when its holder ends, however.

    Raises:
        InUseError: if another process holds it and ``wait`` is false.
        OutputError: if the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path, mode=0o666, is_singleton=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except Timeout:
        raise InUseError(f"another process writes in {path.parent}; wait for it, or choose another folder") from None
    except OSError as error:
        problem = f"cannot write in {path.parent}: {error.strerror or error}; choose another folder"
        raise OutputError(error.errno, problem) from error
    try:
        yield
    finally:
        lock.release()


def project_root(start: Path | None = None) -> Path:
    """The clone round ``start`` (default: the working directory), else the one that holds addlib, else FileNotFoundError."""
    start = Path(start or "").resolve()
    expected = ("_config.yml", "book/_toc.yml")
    for folder in (start, *start.parents, Path(__file__).resolve().parents[1]):
        if all((folder / name).is_file() for name in expected):
            return folder
    raise FileNotFoundError(f"{start} is not inside a clone: no folder above it holds {' and '.join(expected)}")
