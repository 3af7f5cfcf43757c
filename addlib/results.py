"""Rows of results: what was trained, how well it did, what the paper reports, and comparisons seed by seed. Imports pandas."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from addlib.files import atomic_write, locked, project_root
from addlib.metrics import SeedInterval, seed_interval
from addlib.provenance import digest


class Settings(dict):
    """A dict of JSON values, given as dict or JSON, that can be hashed and must not be changed; ``str`` of it is its JSON."""

    def __init__(self, values: Mapping | str | None = None):
        # Numbers of NumPy and torch are those that they hold.
        text = values if isinstance(values, str) else json.dumps(dict(values or {}), default=lambda value: value.item())
        # 1 in the place of 1.0: both name the same training.
        super().__init__(json.loads(text, parse_float=lambda each: int(n) if (n := float(each)).is_integer() else n))

    def __str__(self) -> str:
        return json.dumps(self, sort_keys=True)

    def __hash__(self) -> int:
        return hash(str(self))


@dataclass(frozen=True)
class Run:
    """One training by its settings; changes and settings are given as dict or JSON."""

    manipulation: str  # of the crops, such as "NeuralTextures"
    quality: str
    detector: str = "resnet50"  # backbone of student and teacher
    distiller: str = "none"  # or the loss between student and teacher
    recipe: str = "paper"
    changes: Settings = Settings()  # what differs from that recipe
    seed: int = 0  # of initial weights, order, mirroring, views and pairs; the teacher has the same
    start: str = "noise"  # or "teacher" (the teacher's weights), "imagenet", or a path of weights
    settings: Settings = Settings()  # what differs from the distiller's own defaults, or it would be another key

    def __post_init__(self):
        if not str(self.seed).removeprefix("-").isdecimal():
            raise ValueError(f"seed is {self.seed!r}; expected a whole number")
        for name, kind in (("changes", Settings), ("settings", Settings), ("seed", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))
        if self.distiller == "none" and self.settings:
            raise ValueError(f"settings are {self.settings} without a distiller; name one, or leave them out")

    @classmethod
    def of(cls, row: Mapping) -> Run:
        """The training behind a row of results."""
        return cls(**{name: row[name] for name in COLUMNS})

    @property
    def teacher(self) -> Run | None:
        """The training of the teacher, the same detector on raw; None if nothing is taken from a teacher."""
        if self.distiller == "none" and self.start != "teacher":
            return None
        start = {"teacher": "noise"}.get(self.start, self.start)
        return replace(self, quality="raw", distiller="none", start=start, settings={})

    @property
    def parameters(self) -> dict:
        """As a notebook of book/experiments takes them."""
        return dict(vars(self))

    @property
    def columns(self) -> dict:
        """As columns of a row of results, with changes and settings as JSON."""
        return {name: str(value) if isinstance(value, Settings) else value for name, value in vars(self).items()}

    def key(self, data: str) -> str:
        """Twelve hexadecimal digits of the settings, of the teacher's, and of the hash of the crops."""
        return digest([self.columns, data, self.teacher and self.teacher.key(data)])

    def __str__(self) -> str:
        words = [self.manipulation, self.quality, self.detector, self.distiller]
        words += [f"{name}={value}" for name, value in sorted((self.settings | self.changes).items())]
        return " ".join([*words, *[f"from {self.start}"] * (self.start != "noise"), f"seed {self.seed}"])


COLUMNS = tuple(field.name for field in fields(Run))
# Measures that are shares, which tables show in percent.
METRICS = ("accuracy auc eer ece recall_at_1 recall_at_1_other video_accuracy video_auc val_accuracy val_auc "
           "large_accuracy large_auc large_video_accuracy large_video_auc").split()  # fmt: skip
PLACE = ["manipulation", "quality", "seed"]
TEXT = "key profile manipulation quality detector distiller recipe changes start settings data commit versions made_with code large_data"
AS_WRITTEN = {"dtype": dict.fromkeys(TEXT.split(), str), "keep_default_na": False, "na_values": [""]}  # "007" and "None" are names


def results_file(root=None, name: str = "runs") -> Path:
    """data/results/<name>.csv of the project; "runs" holds the trainings, "look" and "outside" what was measured on them."""
    return project_root(root) / "data" / "results" / f"{name}.csv"


def read_results(path=None) -> pd.DataFrame:
    """All rows of a table, that of the trainings by default; an empty one if there is no file. Settings are JSON."""
    path, columns = Path(path or results_file()), ["key", "profile", *COLUMNS, *METRICS[:10], "data"]
    return pd.read_csv(path, **AS_WRITTEN) if path.is_file() else pd.DataFrame(columns=columns)


def record(row: Mapping, profile: str, *, predictions: pd.DataFrame | None = None, path=None) -> dict:
    """Write the row of a ``training.Trained``, which may hold more measures, in the place of an earlier one of the same key.

    profile: what the training is for; tables choose by it. predictions: of columns split, video, frame, label, log_odds; they
    go beside the table, to a folder of its name: another table may hold the same training, tested on other people.
    """
    run, path = Run.of(row), Path(path or results_file())
    if predictions is not None:
        # Log odds in two bytes a crop; the columns that name the crops once for all trainings on them.
        odds = predictions["log_odds"].to_numpy().clip(-6e4, 6e4).astype(np.float16)  # its largest number is 65504
        index, folder = predictions[["split", "video", "frame", "label"]], path.parent / "predictions"
        name, packing = digest(index.astype(str).to_numpy().tolist()), {"method": "gzip", "mtime": 0}
        if not (names := folder / f"index-{name}.csv.gz").is_file():
            atomic_write(names, lambda file: index.to_csv(file, index=False, compression=packing, lineterminator="\n"))
        answers = folder / path.stem / f"{row.get('key') or run.key(row['data'])}.npz"
        atomic_write(answers, lambda file: np.savez_compressed(file, index=name, log_odds=odds))
    return record_measurements(run, profile, [row], path)[0]


def record_measurements(run: Run, profile: str, rows: list[Mapping], path) -> list[dict]:
    """Write several rows of what was measured on a trained network, in the place of earlier ones of the same key.

    rows: of the same columns, ``data`` (hash of the crops it was trained on) among them, and ``key`` where the teacher was
    another than the run says. path: of their own table.
    """
    if len({tuple(row) for row in rows}) != 1 or "data" not in rows[0]:
        raise ValueError(f"{len(rows)} rows; expected one or more with the same columns, 'data' among them")
    path, key = Path(path), rows[0].get("key") or run.key(rows[0]["data"])
    own, written = {"key": key, "profile": profile, **run.columns}, []
    for row in rows:
        more = {name: value for name, value in row.items() if name not in own}
        written.append(own | {name: str(Settings(v)) if isinstance(v, dict) else v for name, v in more.items()})
    with locked(path.with_name(f".{path.name}.lock")):
        # Through text and back, so that a table does not depend on the order in which its rows came.
        lines = pd.read_csv(io.StringIO(pd.DataFrame(written).to_csv(index=False)), **AS_WRITTEN)
        kept = read_results(path).query("key != @key")
        table = pd.concat([kept, lines], ignore_index=True) if len(kept) else lines
        table = table.sort_values(["profile", *COLUMNS, "key"], kind="stable")
        atomic_write(path, lambda file: table.to_csv(file, index=False, lineterminator="\n"))
    return written


def read_predictions(key: str, path=None) -> pd.DataFrame:
    """What the training of a row answered: split, video, frame, label, log_odds of fake. path: of the table that has the row."""
    path = Path(path or results_file())
    folder = path.parent / "predictions"
    with np.load(folder / path.stem / f"{key}.npz") as kept:
        return _index(folder / f"index-{kept['index']}.csv.gz").assign(log_odds=kept["log_odds"].astype(np.float64))


@cache
def _index(path: Path) -> pd.DataFrame:
    """One for all trainings on the same crops; its name is a digest of what it holds."""
    return pd.read_csv(path, dtype={"video": str}, keep_default_na=False)


def on_the_same_crops(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a run that was trained on the crops (``data``) of several machines, the rows on those that most of its seed are on.

    Crops of another machine may differ in some pixels. Rows of what was trained on one machine only are all kept.
    """
    votes = rows.groupby(["profile", "seed", "data"])["data"].transform("size")
    runs = rows.assign(votes=votes).sort_values(["votes", "data"], kind="stable").groupby(["profile", *COLUMNS], sort=False)
    return rows[rows["data"] == runs["data"].transform("last").reindex(rows.index)]


def scores_of(rows: pd.DataFrame, metric: str = "accuracy", **chosen) -> pd.Series:
    """One measure of all trainings of one setting, in percent, by manipulation, quality and seed.

    metric: a name in ``METRICS``. chosen: columns of the rows, each with a value or a list of values, such as
    ``distiller="add"`` and ``settings={"beta": 4}``. Unless they are named, ``changes`` and ``settings`` are none and the
    start is from noise: trainings of an ablation do not slip in.
    """
    chosen, part = {"changes": {}, "start": "noise", "settings": {}} | chosen, rows
    if unknown := {metric} - set(METRICS) | set(chosen) - set(rows):
        raise ValueError(f"unknown {sorted(unknown)}; the metrics are {list(METRICS)}, the columns {list(rows)}")
    for name, value in chosen.items():
        wanted = list(value) if pd.api.types.is_list_like(value) and not isinstance(value, Mapping) else [value]
        part = part[part[name].isin([str(Settings(each)) if isinstance(each, dict) else each for each in wanted])]
    if (twice := part.duplicated(PLACE)).any():
        place = " ".join(map(str, part[twice].iloc[0][PLACE]))
        found = part.filter([*COLUMNS, "profile", "data"]).drop(columns=PLACE).nunique(dropna=False)
        remedy = "name one; of the same run on crops of several machines, on_the_same_crops takes one"
        raise ValueError(f"several trainings at {place}; they differ in some of {[*found.index[found > 1]]}: {remedy}")
    return 100 * part.set_index(PLACE)[metric].sort_index()


def setting(rows: pd.DataFrame, name: str, default=None) -> pd.Series:
    """One setting of the distiller for each row, such as ``setting(rows, "alpha", 1.0)``; its default where not changed."""
    return rows["settings"].map(lambda text: json.loads(text).get(name, default))


def over_seeds(values: pd.Series, by=("manipulation", "quality")) -> dict[object, SeedInterval]:
    """The interval over the seeds for each group, by one level or several, of a Series of :func:`scores_of`."""
    groups = dict(list(values.groupby(level=by if isinstance(by, str) else list(by))))
    for group, part in groups.items():
        if part.index.get_level_values("seed").has_duplicates:
            raise ValueError(f"{group} has a seed twice; group by more levels, or take the mean over them first")
    return {group: seed_interval(part) for group, part in groups.items()}


def paired_by_seed(values: pd.Series, base: pd.Series) -> pd.Series:
    """Differences ``values - base`` where both have the same manipulation, quality and seed."""
    return (values - base).dropna()


def mean_over_manipulations(values: pd.Series) -> pd.Series:
    """The mean over the manipulations for each quality and seed, of seeds that have every manipulation there is."""
    by = values.groupby(level=["quality", "seed"])
    return by.mean()[by.count() == values.index.get_level_values("manipulation").nunique()]


def format_interval(found: SeedInterval | None, sign: str = "", digits: int = 1) -> str:
    """Mean ± half the width, as tables show it; one seed has no interval; "-" for None. sign: "+" shows it always."""
    half = f" ± {found.high - found.mean:.{digits}f}" if found and found.seeds > 1 else ""
    return f"{found.mean:{sign}.{digits}f}{half}" if found else "-"


def read_paper(table: int, root=None) -> pd.DataFrame:
    """Table 1, 2 or 3 of Le and Woo (AAAI 2022), with the names and columns of the rows of results, in percent; and ``model``."""
    found = pd.read_csv(project_root(root) / "data" / "paper" / f"table{table}.csv")
    return found.rename(columns=lambda name: name.removesuffix("_percent"))
