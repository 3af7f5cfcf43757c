"""Trainings kept on disk, each in a folder that its key names; what another code made is not taken for today's."""

import contextlib
import hashlib
import inspect
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from addlib.detectors import load_weights, save_weights
from addlib.files import atomic_write

KNOWN = ("addlib", "builtins", "torch", "torchvision", "timm")  # packages whose code or version counts anyway


@dataclass(frozen=True)
class Trained:
    """A trained detector and what is known about it; ``detector, row = trained`` works as well."""

    detector: nn.Module  #: in evaluation mode, on the CPU, with the weights of the best validation
    row: dict  #: one row of results with settings, metrics on the test split, provenance
    history: pd.DataFrame  #: a row for every logged step, with ``step``, ``epoch``, ``train_*``, ``val_*``
    predictions: pd.DataFrame  #: of val and test, with ``split``, ``video``, ``frame``, ``label``, ``probability``, …
    folder: Path | None = None  #: where it is kept

    def __iter__(self):
        return iter((self.detector, self.row))

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name this training in folders, rows and pages."""
        return self.row["key"]


def weights_hash(module: nn.Module) -> str:
    """Twelve hexadecimal digits of all parameters and buffers of a module."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode() + bytes(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy()))
    return found.hexdigest()[:12]


def foreign_code(*parts: nn.Module | Callable | None) -> list[str]:
    """The source of classes and functions that are not of this package or torch, such as a detector of one's own, sorted."""
    kinds = {type(each) for part in parts if isinstance(part, nn.Module) for each in part.modules()}
    kinds = {base for kind in kinds for base in kind.__mro__} | {part for part in parts if inspect.isroutine(part)}
    return sorted(_source(kind) for kind in kinds if kind.__module__.partition(".")[0] not in KNOWN)


def _source(kind: type | Callable) -> str:
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(kind)
    # A class typed into a notebook has no file, but its functions have source; typed into a session there is none.
    return "\n".join([kind.__qualname__, *(_source(part) for part in vars(kind).values() if inspect.isfunction(part))])


def begin(folder: Path, made_with: str, anew: bool = False) -> None:
    """Make a folder ready to train in: what another code or hardware left half-done there does not count."""
    started = folder / "made_with"
    if anew or not started.is_file() or started.read_text() != made_with:
        for name in ("csv", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
    atomic_write(started, lambda file: file.write(made_with.encode()))


def load(folder: Path, detector: nn.Module, made_with: str) -> Trained | None:
    """A finished training from its folder into a detector of its kind; None if there is none, or made with something else.

    Warns of one that is damaged, and is taken for none.
    """
    try:
        row = json.loads((folder / "row.json").read_bytes()) if (folder / "row.json").is_file() else {}
        if row.get("made_with") != made_with:
            return None
        predictions = pd.read_csv(folder / "predictions.csv.gz", dtype={"video": str})
        history = pd.read_csv(folder / "history.csv")
        load_weights(detector, folder / "weights.safetensors")
    except (OSError, EOFError, ValueError, AttributeError) as error:
        warnings.warn(f"the training kept in {folder} is damaged ({error}); it is trained again", stacklevel=3)
        return None
    return Trained(detector.eval(), row, history, predictions, folder)


def save(trained: Trained, about: dict) -> None:
    """Write a finished training; the row comes last, so that a folder with a row is complete. about: for the weights' file."""
    folder, plain = trained.folder, {"index": False, "lineterminator": "\n"}
    (folder / "row.json").unlink(missing_ok=True)
    save_weights(trained.detector, folder / "weights.safetensors", about)
    atomic_write(folder / "history.csv", lambda file: trained.history.to_csv(file, **plain))
    # No time in the file: the same predictions give the same bytes.
    packing = {"compression": {"method": "gzip", "mtime": 0}, "float_format": "%.10g"}
    atomic_write(folder / "predictions.csv.gz", lambda file: trained.predictions.to_csv(file, **plain, **packing))
    atomic_write(folder / "row.json", lambda file: file.write((json.dumps(trained.row, indent=1) + "\n").encode()))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def read_history(folder: Path) -> pd.DataFrame:
    """What Lightning's CSV logger wrote, a row a step, over all attempts: after an interruption the later attempt counts."""
    tables = [pd.read_csv(path) for path in sorted(folder.glob("csv/attempt_*/metrics.csv"))]
    # Training and validation are logged in rows of their own.
    return pd.concat(tables).groupby("step", as_index=False).last()
