"""The network behind a row: the training of a cell as it was kept, or trained now."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from addlib.detectors import read_detector
from addlib.faceforensics import data_hash
from addlib.training import Recipe, Trained, fit_detector, fit_student, runs

from .cells import Cell


def trained(cell: Cell, crops, folder) -> Trained:
    """The training of a cell on these crops, for notebooks that measure more on a network than its row holds.

    folder: where trainings are kept, such as data/runs. Of trainings with the settings of the cell the latest is taken,
    also one of an earlier commit (its row says which): a change of the code that trains does not change what a trained
    network is. Without one the teacher, if the cell has a distiller, and then the cell itself are trained and kept.
    """
    found = kept(cell, crops, folder)
    if found is not None:
        return found
    options = {"recipe": cell.recipe, "changes": json.loads(cell.changes), "seed": cell.seed, "folder": folder}
    if cell.distiller == "none":
        return fit_detector(crops, cell.manipulation, cell.quality, detector=cell.detector, **options)
    teacher = trained(
        Cell(cell.manipulation, "raw", cell.detector, "none", cell.recipe, cell.changes, cell.seed), crops, folder
    )
    settings = {"distiller": cell.distiller, "distiller_settings": cell.settings, "detector": cell.detector}
    return fit_student(crops, cell.manipulation, cell.quality, teacher=teacher, **settings, **options)


def kept(cell: Cell, crops, folder) -> Trained | None:
    """The latest kept training of a cell, None if there is none."""
    data = data_hash(crops)
    pattern = f"{cell.manipulation}-{cell.quality}-{cell.detector}-{cell.distiller}-{cell.seed}-*/row.json"
    rows = sorted(Path(folder).glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in rows:
        row = json.loads(path.read_text(encoding="utf-8"))
        names = ("manipulation", "quality", "detector", "distiller", "recipe", "changes", "seed")
        made = Cell(**{name: row[name] for name in names}, **row["settings"])
        if _identity(made) == _identity(cell) and row["data"] == data:
            detector, _ = read_detector(path.with_name("weights.safetensors"))
            return runs.load(path.parent, detector)
    return None


def _identity(cell: Cell):
    """The cell with its recipe spelt out: changes to what the recipe has anyway are none."""
    return replace(cell, changes="{}"), Recipe.named(cell.recipe, **json.loads(cell.changes))
