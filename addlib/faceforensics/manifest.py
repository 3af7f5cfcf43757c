"""The manifest: what was prepared, from what, and under which hash."""

import hashlib
from pathlib import Path

import pandas as pd

MANIFEST = "manifest.csv"
COLUMNS = [
    "split", "manipulation", "video", "ids", "quality", "label", "asked", "crops", "status", "reason", "source_sha256",
    "crops_sha256", "path", "note",
]  # fmt: skip


def read_manifest(out: str | Path) -> pd.DataFrame:
    """The table of a prepared folder. Raises FileNotFoundError where there is none, ValueError if columns are missing."""
    path = Path(out) / MANIFEST
    if not path.is_file():
        seen = "" if path.is_absolute() else f", seen from the working directory {Path.cwd()}"
        raise FileNotFoundError(f"no {MANIFEST} in {out}{seen}; prepare it first: addlib prepare ROOT {out}")
    text = dict.fromkeys(set(COLUMNS) - {"label", "asked", "crops"}, str)
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False, encoding_errors="surrogateescape")
        table = table.astype({name: int for name in ("label", "asked", "crops") if name in table})
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); prepare the folder again") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{path} lacks the columns {missing}; prepare the folder again")
    return table


def data_hash(out: str | Path) -> str:
    """12 hex digits that stand for the prepared data: every crop's hash, its quality and its split."""
    table = read_manifest(out).sort_values(["manipulation", "video", "quality"])
    lines = table[["manipulation", "video", "quality", "split", "crops_sha256"]].agg("/".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:12]
