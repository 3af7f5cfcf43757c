"""Rows of results: CSV files that many processes may write, the rows of a key at once."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from filelock import FileLock

from addlib.files import write

from .cells import Cell

# Columns of a row besides the settings of its cell.
MEASURED = (
    "val_accuracy", "val_auc", "images", "videos", "left_out", "accuracy", "auc", "eer", "ece", "recall_at_1", "recall_at_1_other",
    "video_accuracy", "video_auc", "best_step", "steps", "seconds", "precision", "device", "commit", "date", "data",
)  # fmt: skip


TEXT = {"key": str, "data": str, "commit": str, "changes": str}


def results_file(root=None, name: str = "runs") -> Path:
    """data/results/<name>.csv of the project round the working directory, or of ``root``; "runs" holds the trainings."""
    from addlib.book.project import locate

    return locate(root).root / "data" / "results" / f"{name}.csv"


def read_results(path=None) -> pd.DataFrame:
    """All rows; an empty table with the columns if there is no file yet."""
    path = Path(path) if path is not None else results_file()
    if not path.is_file():
        names = ["key", "profile", *Cell.__dataclass_fields__, *MEASURED]
        return pd.DataFrame({name: [] for name in names})
    return _completed(pd.read_csv(path, dtype=TEXT))


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows from before a setting existed had what is its default now; their key follows."""
    cells = [
        Cell(**{name: row[name] for name in Cell.__dataclass_fields__ if name in row and not pd.isna(row[name])})
        for row in table.to_dict("records")
    ]
    settings = pd.DataFrame([asdict(cell) for cell in cells], index=table.index)
    rest = table.drop(columns=["key", "profile", *settings.columns], errors="ignore")
    keys = [cell.key(data) for cell, data in zip(cells, table["data"], strict=True)]
    return pd.concat([table[["profile"]].assign(key=keys)[["key", "profile"]], settings, rest], axis=1)


def record(cell: Cell, profile: str, row: dict, path=None) -> dict:
    """Write the row of a cell, in the place of an earlier one of the same key.

    cell, profile: what was run. row: of a ``training.Trained``; its columns in ``MEASURED`` and its versions are kept.
    Returns the row as written. The file is replaced as a whole under a lock: it is never half-written.
    """
    path = Path(path) if path is not None else results_file()
    missing = [name for name in MEASURED if name not in row]
    if missing:
        raise ValueError(f"the row lacks {missing}; give the row of a training")
    (written,) = _replace(cell, profile, [{name: row[name] for name in MEASURED} | row.get("versions", {})], path)
    return written


def record_measurements(cell: Cell, profile: str, rows: list[dict], path) -> list[dict]:
    """Write what was measured on a trained cell, several rows, in the place of earlier ones of the same key.

    rows: of the same columns, ``data`` (hash of the crops it was trained on) among them. path: of their own table, such as
    ``results_file(name="outside")``.
    Returns the rows as written. Raises ValueError if there are none, or their columns differ.
    """
    names = {tuple(row) for row in rows}
    if len(names) != 1 or "data" not in next(iter(names)):
        raise ValueError(f"{len(rows)} rows with columns {sorted(names)}; expected the same in each, 'data' among them")
    return _replace(cell, profile, rows, path)


def _replace(cell, profile, rows, path):
    written = [{"key": cell.key(row["data"]), "profile": profile, **asdict(cell), **row} for row in rows]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        table = read_results(path)
        # Through text and back, so that a table does not depend on the order in which its rows came.
        lines = _completed(pd.read_csv(io.StringIO(pd.DataFrame(written).to_csv(index=False)), dtype=TEXT))
        kept = table[table["key"] != written[0]["key"]]
        table = pd.concat([kept, lines], ignore_index=True) if len(kept) else lines
        order = ["profile", *Cell.__dataclass_fields__, "key"]
        table = table.sort_values(order, na_position="first", kind="stable")
        write(path, lambda file: table.to_csv(file, index=False, lineterminator="\n"))
    return written
