"""Rows of results: what was trained, how well it did, what the paper reports, and comparisons seed by seed.

Needs pandas alone, so that a page that only reads rows starts quickly.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from addlib.files import atomic_write, locked, project_root
from addlib.metrics import SeedInterval, seed_interval
from addlib.provenance import digest


class Settings(dict):
    """A dict of JSON values that can be hashed, and must not be changed. ``str`` of it is its JSON, sorted by name."""

    def __init__(self, values: Mapping | str | None = None):
        given = json.loads(values) if isinstance(values, str) else dict(values or {})
        super().__init__(_plain(json.loads(json.dumps(given))))

    def __str__(self) -> str:
        return json.dumps(self, sort_keys=True)

    def __hash__(self) -> int:
        return hash(str(self))


def _plain(value):
    """The same JSON value with 1 in the place of 1.0, so that both name the same training."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Run:
    """One training by its settings.

    Args:
        manipulation, quality: of the crops, such as "NeuralTextures" and "c40".
        detector: backbone of student and teacher.
        distiller: "none", or the loss between student and teacher.
        recipe: name of the recipe.
        changes: what differs from that recipe.
        seed: of initial weights, order, mirroring, views and pairs; the teacher has the same.
        start: "noise", "teacher" (the teacher's weights), "imagenet", or a path of weights.
        settings: what differs from the distiller's own defaults. A default must not be named: it would be another key.

    ``changes`` and ``settings`` may be given as dicts or as JSON.
    """

    manipulation: str
    quality: str
    detector: str = "resnet50"
    distiller: str = "none"
    recipe: str = "paper"
    changes: Settings = Settings()
    seed: int = 0
    start: str = "noise"
    settings: Settings = Settings()

    def __post_init__(self):
        object.__setattr__(self, "changes", Settings(self.changes))
        object.__setattr__(self, "settings", Settings(self.settings))
        object.__setattr__(self, "seed", int(self.seed))
        if self.distiller == "none" and self.settings:
            raise ValueError(f"settings are {self.settings} without a distiller; name one, or leave them out")

    @classmethod
    def of(cls, row: Mapping) -> Run:
        """The training behind a row of results."""
        return cls(**{name: row[name] for name in COLUMNS})

    @property
    def teacher(self) -> Run | None:
        """The training of the teacher: the same detector on raw. None if nothing is taken from a teacher."""
        if self.distiller == "none" and self.start != "teacher":
            return None
        start = "noise" if self.start == "teacher" else self.start
        return replace(self, quality="raw", distiller="none", start=start, settings=Settings())

    @property
    def parameters(self) -> dict:
        """As a notebook of book/experiments takes them."""
        return {name: dict(value) if isinstance(value, Settings) else value for name, value in vars(self).items()}

    @property
    def columns(self) -> dict:
        """As columns of a row of results; changes and settings are JSON."""
        return {name: str(value) if isinstance(value, Settings) else value for name, value in vars(self).items()}

    def key(self, data: str) -> str:
        """Twelve hexadecimal digits of the settings, of the teacher's, and of the hash of the crops."""
        return digest([self.columns, data, self.teacher and self.teacher.key(data)])

    def __str__(self) -> str:
        words = [self.manipulation, self.quality, self.detector, self.distiller]
        words += [f"{name}={value}" for name, value in sorted((self.settings | self.changes).items())]
        words += [f"from {self.start}"] * (self.start != "noise")
        return " ".join([*words, f"seed {self.seed}"])


COLUMNS = tuple(field.name for field in fields(Run))


# Measures that are shares, which tables show in percent.
METRICS = (
    "accuracy", "auc", "eer", "ece", "recall_at_1", "recall_at_1_other", "video_accuracy", "video_auc", "val_accuracy", "val_auc",
    "large_accuracy", "large_auc", "large_video_accuracy", "large_video_auc",
)  # fmt: skip
PLACE = ["manipulation", "quality", "seed"]
TEXT = dict.fromkeys(
    ("key", "data", "commit", "changes", "settings", "versions", "made_with", "code", "start", "large_data"), str
)


def results_file(root=None, name: str = "runs") -> Path:
    """data/results/<name>.csv of the project; "runs" holds the trainings, "look" and "outside" what was measured on them."""
    return project_root(root) / "data" / "results" / f"{name}.csv"


def read_results(path=None) -> pd.DataFrame:
    """All rows of a table, that of the trainings by default; an empty one if there is no file. Settings are JSON."""
    path = Path(path or results_file())
    return _read(path) if path.is_file() else pd.DataFrame(columns=["key", "profile", *COLUMNS, *METRICS[:10], "data"])


def record(row: Mapping, profile: str, *, predictions: pd.DataFrame | None = None, path=None) -> dict:
    """Write the row of a training, in the place of an earlier one of the same key, and what it answered to each crop.

    Args:
        row: of a ``training.Trained``, with more measures if there are any, such as those of a second, larger test set.
        profile: what the training is for; tables choose by it.
        predictions: see :func:`write_predictions`.
        path: of the table.

    Returns:
        The row as written. The file is replaced as a whole under a lock: it is never half-written.
    """
    path = Path(path or results_file())
    if predictions is not None:
        write_predictions(Run.of(row).key(row["data"]), predictions, path.parent)
    return _replace(Run.of(row), profile, [row], path)[0]


def record_measurements(run: Run, profile: str, rows: list[Mapping], path) -> list[dict]:
    """Write what was measured on a trained network, several rows, in the place of earlier ones of the same key.

    rows: of the same columns, ``data`` (hash of the crops it was trained on) among them. path: of their own table.
    """
    if len({tuple(row) for row in rows}) != 1 or "data" not in rows[0]:
        raise ValueError(f"{len(rows)} rows; expected one or more with the same columns, 'data' among them")
    return _replace(run, profile, rows, Path(path))


def _read(source) -> pd.DataFrame:
    return pd.read_csv(source, dtype=TEXT)


def _replace(run: Run, profile: str, rows, path: Path) -> list[dict]:
    written = [{"key": run.key(row["data"]), "profile": profile, **run.columns} for row in rows]
    for line, row in zip(written, rows, strict=True):
        rest = {name: value for name, value in row.items() if name not in line}
        line |= {name: str(Settings(value)) if isinstance(value, dict) else value for name, value in rest.items()}
    with locked(path.with_name(f".{path.name}.lock")):
        # Through text and back, so that a table does not depend on the order in which its rows came.
        lines = _read(io.StringIO(pd.DataFrame(written).to_csv(index=False)))
        table = read_results(path)
        kept = table[table["key"] != written[0]["key"]]
        table = pd.concat([kept, lines], ignore_index=True) if len(kept) else lines
        table = table.sort_values(["profile", *COLUMNS, "key"], kind="stable")
        atomic_write(path, lambda file: table.to_csv(file, index=False, lineterminator="\n"))
    return written


def write_predictions(key: str, predictions: pd.DataFrame, folder=None) -> None:
    """Keep what a training answered, as log odds in half precision: predictions/<key>.npz, two bytes a crop.

    predictions: columns split, video, frame, label, and ``log_odds`` or ``probability`` of fake. folder: data/results. The first
    four, which are the same for all trainings on the same crops, are kept once, under the hash of what they hold.
    """
    folder = Path(folder or results_file().parent) / "predictions"
    index = predictions[["split", "video", "frame", "label"]]
    name = digest(index.astype(str).to_numpy().tolist())
    if not (folder / f"index-{name}.csv.gz").is_file():
        packing = {"compression": {"method": "gzip", "mtime": 0}, "lineterminator": "\n"}
        atomic_write(folder / f"index-{name}.csv.gz", lambda file: index.to_csv(file, index=False, **packing))
    if "log_odds" in predictions:
        odds = predictions["log_odds"].to_numpy(np.float64)
    else:
        probability = predictions["probability"].to_numpy(np.float64).clip(5e-7, 1 - 5e-7)  # given to six digits
        odds = np.log(probability / (1 - probability))
    odds = odds.clip(-6e4, 6e4).astype(np.float16)  # the largest number of half precision is 65504
    atomic_write(folder / f"{key}.npz", lambda file: np.savez_compressed(file, index=name, log_odds=odds))


def read_predictions(key: str, folder=None) -> pd.DataFrame:
    """What the training of a row answered: split, video, frame, label, log_odds, and probability of fake."""
    folder = Path(folder or results_file().parent) / "predictions"
    with np.load(folder / f"{key}.npz") as kept:
        odds = kept["log_odds"].astype(np.float64)
        table = pd.read_csv(folder / f"index-{kept['index']}.csv.gz", dtype={"video": str})
    return table.assign(log_odds=odds, probability=1 / (1 + np.exp(-odds)))


def scores_of(rows: pd.DataFrame, metric: str = "accuracy", **chosen) -> pd.Series:
    """One measure of all trainings of one setting, in percent, by manipulation, quality and seed.

    Args:
        rows: of :func:`read_results`.
        metric: a name in ``METRICS``.
        chosen: columns of the rows, each with a value or a list of values, such as ``distiller="add"`` and
            ``settings={"beta": 4}``. Unless they are named, ``changes`` and ``settings`` are none, and the start is from
            noise: trainings of an ablation do not slip in.

    Raises:
        ValueError: no such metric or column, or two trainings stand at one place.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; there are {list(METRICS)}")
    chosen = {"changes": {}, "start": "noise", "settings": {}} | chosen
    if unknown := set(chosen) - set(rows):
        raise ValueError(f"rows have no {sorted(unknown)}; they have {list(rows)}")
    part = rows
    for name, value in chosen.items():
        wanted = value if isinstance(value, list | tuple) else [value]
        part = part[part[name].isin([str(Settings(each)) if isinstance(each, dict) else each for each in wanted])]
    if part.duplicated(PLACE).any():
        place = " ".join(map(str, part[part.duplicated(PLACE)].iloc[0][PLACE]))
        several = [
            name
            for name in (*COLUMNS, "profile", "data")
            if name in part and name not in PLACE and part[name].nunique(dropna=False) > 1
        ]
        raise ValueError(f"several trainings at {place}; they differ in some of {several}: name which")
    return 100 * part.set_index(PLACE)[metric].sort_index()


def setting(rows: pd.DataFrame, name: str, default=None) -> pd.Series:
    """One setting of the distiller for each row, such as ``setting(rows, "alpha", 1.0)``; default: where it is not changed."""
    return rows["settings"].map(lambda text: json.loads(text).get(name, default))


def over_seeds(values: pd.Series, by=("manipulation", "quality")) -> dict[object, SeedInterval]:
    """The interval over the seeds for each group of a Series of :func:`scores_of` or of a difference of two.

    by: one level, or several, in whose groups the values differ by the seed alone.
    """
    found = {}
    for group, part in values.groupby(level=by if isinstance(by, str) else list(by)):
        if part.index.get_level_values("seed").has_duplicates:
            raise ValueError(f"{group} has a seed twice; group by more levels, or take the mean over them first")
        found[group] = seed_interval(part)
    return found


def paired_by_seed(values: pd.Series, base: pd.Series) -> pd.Series:
    """Differences ``values - base`` where both have the same manipulation, quality and seed."""
    return (values - base).dropna()


def mean_over_manipulations(values: pd.Series) -> pd.Series:
    """The mean over the manipulations for each quality and seed, of seeds that have every manipulation there is."""
    by = values.groupby(level=["quality", "seed"])
    manipulations = values.index.get_level_values("manipulation").nunique()
    return by.mean()[by.size() == manipulations]


def format_interval(found: SeedInterval | None, sign: str = "", digits: int = 1) -> str:
    """Mean ± half the width, as tables show it; one seed has no interval; "-" for None. sign: "+" shows it always."""
    if found is None:
        return "-"
    half = f" ± {found.high - found.mean:.{digits}f}" if found.seeds > 1 else ""
    return f"{found.mean:{sign}.{digits}f}{half}"


def read_paper(table: int, root=None) -> pd.DataFrame:
    """Table 1, 2 or 3 of Le and Woo (AAAI 2022), from data/paper, in the names of this project.

    Returns columns ``manipulation, quality, detector, distiller, settings`` as in the rows of results, ``model`` (the name
    in the paper), ``accuracy`` in percent, and for table 1 ``recall_at_1`` in percent.
    """
    if table not in (1, 2, 3):
        raise ValueError(f"the paper has no table {table!r}; it has 1, 2 and 3")
    found = pd.read_csv(project_root(root) / "data" / "paper" / f"table{table}.csv")
    return found.rename(columns=lambda name: name.removesuffix("_percent"))
