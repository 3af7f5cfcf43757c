"""Trainings kept on disk, each under a key of all that its result depends on: a second call with the same settings loads it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from addlib.detectors import load_weights, save_weights
from addlib.files import write

from .evaluation import Predictions

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Trained:
    """A trained detector and what is known about it.

    detector: in evaluation mode, on the CPU, with the weights of the best validation. row: one row of results (settings,
    metrics on the test split, provenance). history: a DataFrame with one row for every logged step (``step``, ``epoch``,
    ``train_*``, ``val_*``). predictions: a DataFrame of the validation and the test split (``split``, ``video``,
    ``frame``, ``label``, ``probability`` of fake). folder: where it is kept, or None.
    """

    detector: nn.Module
    row: dict
    history: pd.DataFrame
    predictions: pd.DataFrame
    folder: Path | None = None

    def __iter__(self):
        """``detector, row = fit_detector(...)`` works."""
        return iter((self.detector, self.row))


def key_of(settings: dict) -> str:
    """Sixteen hexadecimal digits of the settings, any nesting of what JSON holds."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def hash_of_weights(module: nn.Module) -> str:
    """Sixteen hexadecimal digits of all parameters and buffers of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def hash_of_sources(*modules) -> str:
    """Sixteen hexadecimal digits of the code of Python modules; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse(inspect.getsource(module))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                    body[0] = ast.copy_location(ast.Pass(), body[0])
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def load(folder: Path, detector: nn.Module) -> Trained | None:
    """A finished training from its folder into a detector of its kind; None if there is none."""
    if not (folder / "row.json").is_file():
        return None
    load_weights(detector, folder / "weights.safetensors")
    return Trained(
        detector.eval(),
        json.loads((folder / "row.json").read_text(encoding="utf-8")),
        pd.read_csv(folder / "history.csv"),
        pd.read_csv(folder / "predictions.csv.gz", dtype={"video": str}),
        folder,
    )


def save(folder: Path, trained: Trained) -> None:
    """Write a finished training; the row comes last, so that a folder with a row is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("manipulation", "quality", "distiller", "recipe", "changes", "seed", "data", "commit")
    about = {name: trained.row[name] for name in names}
    save_weights(trained.detector, folder / "weights.safetensors", about)
    write(folder / "history.csv", lambda file: trained.history.to_csv(file, index=False, lineterminator="\n"))
    # No time in the file: the same predictions give the same bytes.
    packing = {"compression": {"method": "gzip", "mtime": 0}, "float_format": "%.6g"}
    write(
        folder / "predictions.csv.gz",
        lambda file: trained.predictions.to_csv(file, index=False, lineterminator="\n", **packing),
    )
    write(folder / "row.json", lambda file: file.write((json.dumps(trained.row, indent=1) + "\n").encode()))


def table_of(split: str, predictions: Predictions) -> pd.DataFrame:
    """Predictions as rows, without the embeddings."""
    return pd.DataFrame(
        {
            "split": split,
            "video": predictions.videos,
            "frame": predictions.frames,
            "label": predictions.labels.numpy(),
            "probability": predictions.probabilities.numpy().round(6),
        }
    )


def read_history(folder: Path) -> pd.DataFrame:
    """What Lightning's CSV logger wrote, over all attempts: after an interruption the later attempt counts."""
    tables = []
    for path in sorted(folder.glob("csv/attempt_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])):
        frame = pd.read_csv(path)
        tables = [table[table["step"] < frame["step"].min()] for table in tables] + [frame]
    if not tables:
        return pd.DataFrame({"step": [], "epoch": []})
    # Training and validation are logged in rows of their own.
    return pd.concat(tables).groupby("step", as_index=False).first().sort_values("step").reset_index(drop=True)
