"""The manifest: what was prepared, from what, and whether it is still so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.csv"
COLUMNS = [
    "split", "manipulation", "video", "ids", "quality", "label", "asked", "crops", "status", "reason", "source_sha256",
    "crops_sha256", "path", "note",
]  # fmt: skip


def read_manifest(out: str | Path) -> pd.DataFrame:
    """The table of a prepared folder.

    Raises:
        FileNotFoundError: if ``out`` was not prepared.
        ValueError: if columns are missing.
    """
    import pandas as pd

    path = Path(out) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"no {MANIFEST} in {out}; prepare it first: addlib prepare ROOT {out}")
    text = dict.fromkeys(set(COLUMNS) - {"label", "asked", "crops"}, str)
    table = pd.read_csv(path, dtype=text, keep_default_na=False, encoding_errors="surrogateescape")
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{path} lacks the columns {missing}; prepare the folder again")
    return table


def data_hash(out: str | Path) -> str:
    """12 hex digits that stand for the prepared data: every crop's hash, its quality and its split."""
    table = read_manifest(out).sort_values(["manipulation", "video", "quality"])
    lines = table[["manipulation", "video", "quality", "split", "crops_sha256"]].agg("/".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:12]


def verify(out: str | Path, *, alignment: bool = False) -> list[str]:
    """Compare crops with the manifest; a list of what is missing or changed, empty if all is well.

    Args:
        out: a prepared folder.
        alignment: also measure that c23 and c40 show the face where raw shows it (see ``alignment.measure``).
    """
    problems = []
    for row in read_manifest(out).query("crops > 0").itertuples():
        try:
            crops = np.load(Path(out) / row.path)
            if hashlib.sha256(crops.tobytes()).hexdigest() != row.crops_sha256 or len(crops) != row.crops:
                problems.append(f"{row.path}: changed since it was made")
        except FileNotFoundError:
            problems.append(f"{row.path}: missing")
        except (ValueError, EOFError, OSError) as error:
            problems.append(f"{row.path}: not readable ({error})")
    if alignment and not problems:
        from .alignment import SHIFT, measure

        problems = [
            f"{row.manipulation}/{row.quality}/{row.video}: lies ({row.dx:+.1f}, {row.dy:+.1f}) pixels beside raw, "
            f"expected at most {SHIFT:g}; another version of the video, or damaged"
            for row in measure(out).query("not aligned").itertuples()
        ]
    return problems
