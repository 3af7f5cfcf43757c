"""The manifest: what was prepared, from what, and whether it is still so."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

MANIFEST = "manifest.csv"
COLUMNS = [
    "split", "manipulation", "video", "ids", "quality", "label", "asked", "crops", "status", "reason", "source_sha256",
    "crops_sha256", "path",
]  # fmt: skip


def read_manifest(out):
    """The table of a prepared folder.

    Raises FileNotFoundError if ``out`` was not prepared, ValueError if columns are missing.
    """
    path = Path(out) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"no {MANIFEST} in {out}; prepare it first: addlib prepare ROOT {out}")
    text = [
        "split",
        "manipulation",
        "video",
        "ids",
        "quality",
        "status",
        "reason",
        "source_sha256",
        "crops_sha256",
        "path",
    ]
    table = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; prepare the folder again")
    return table


def data_hash(out):
    """12 hex digits that stand for the prepared data: every crop's hash, its quality and its split."""
    table = read_manifest(out).sort_values(["manipulation", "video", "quality"])
    lines = table[["manipulation", "video", "quality", "split", "crops_sha256"]].agg("/".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def verify(out):
    """Compare crops with the manifest; a list of what is missing or changed, empty if all is well."""
    problems = []
    for row in read_manifest(out).itertuples():
        if row.crops == 0:
            continue
        path = Path(out) / row.path
        if not path.is_file():
            problems.append(f"{row.path}: missing")
            continue
        try:
            crops = np.load(path)
        except (ValueError, EOFError, OSError) as error:
            problems.append(f"{row.path}: not readable ({error})")
            continue
        if len(crops) != row.crops:
            problems.append(f"{row.path}: {len(crops)} crops, the manifest says {row.crops}")
        elif hashlib.sha256(crops.tobytes()).hexdigest() != row.crops_sha256:
            problems.append(f"{row.path}: changed since it was made")
    return problems
