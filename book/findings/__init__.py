"""What the rows of data/results/protocol.csv and its neighbours say: differences between students, over seeds and people together.

An *arm* is a student by its distiller, its start and, if not 8, its epochs: ``add@teacher``, ``none@noise+16``. Words may follow:
``c23`` for one that sees this quality instead of c40, ``more`` for those of beyond.csv, which learnt from four times as many people
in two epochs, as many steps, or in more, as in ``fr@noise+8 more``, and ``video`` for the mean of its answers to the frames of a
video; ``ablation`` for those of ablation.csv, of NeuralTextures alone (``reader`` and ``paper``: for those of runs.csv of these
profiles), whose settings may follow, as in ``add@noise ablation views=3``. A *finding* is a difference of two arms or one alone, in
the mean over the manipulations or for one of them, and a measure if it is not AUC:
``add@noise - none@noise``, ``kd@teacher - none@teacher: FaceSwap``, ``none@noise, accuracy``, ``fr@noise more video - add@noise``.

Text that states one is bold, and names it in a comment that no reader sees: ``**+1.2 points (0.1 to 2.3)**<!-- … -->``, or
``**better**<!-- verdict … -->``, ``**3 seeds**<!-- seeds … -->``. ``python -m findings`` in book/ writes what the rows say there; a test compares.
"""

from __future__ import annotations

import contextlib
import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from addlib import metrics
from addlib.files import project_root
from addlib.results import Settings, on_the_same_crops, read_predictions, read_results, results_file
from ledger import FIVE

DELTA = 2.0  # points of AUC that count as nothing, named by data/protocol.md
LEVEL, LEVEL_OF_ONE = 0.95, 0.99  # of a mean over the five manipulations, and of each of five (Bonferroni)
ABLATED = ("NeuralTextures",)  # by the paper's Table 2, and by ours
TABLES = {"more": "beyond", "ablation": "ablation", "reader": "runs", "paper": "runs"}  # by a word of an arm
PROFILES = {"ablation": "resnet18_narrow", "reader": "resnet50", "paper": "resnet50"}  # and whose rows
FEWEST = 3  # seeds of an interval: with two, simulations of it do not hold
STATED = re.compile(r"\*\*([^*]+)\*\*<!-- (.+?) -->")
MAIN = ("README.md", "book/intro.md", "book/what-we-found.ipynb")  # which have to state some


class Finding(NamedTuple):
    """In points. low, high: NaN for fewer than three seeds. verdict: of a difference."""

    name: str
    mean: float
    low: float
    high: float
    seeds: int
    verdict: str

    @property
    def interval(self) -> str:
        """Such as "−0.1 to 2.3", finer where an end is so near 0 or ±δ that the verdict hangs on it; empty for fewer than three seeds."""
        edges = [0.0, *(DELTA, -DELTA) * (self.low < 0 < self.high)]
        places = 2 if min(abs(end - edge) for end in (self.low, self.high) for edge in edges) < 0.05 else 1
        return "" if np.isnan(self.low) else f"{self.low:z.{places}f} to {self.high:z.{places}f}".replace("-", "−")

    def __str__(self) -> str:
        ends = f" ({self.interval})" if self.interval else ""
        unit, sign = ("points", "+") if self.verdict else ("%", "")
        mean = f"{self.mean:{sign}z.1f}".replace("-", "−").replace("+0.0", "0.0")  # a zero has no direction
        return f"{mean}\N{NO-BREAK SPACE}{unit}{ends}"


def finding(name: str, folder: Path | None = None) -> Finding:
    """A finding by its name. folder: of the tables and the predictions, data/results by default."""
    seeds, values = values_of(name, folder)
    compared, single = " - " in name, ": " in name
    if len(seeds) < FEWEST:
        return Finding(name, float(values.mean()), np.nan, np.nan, len(seeds), "not known" * compared)
    level = LEVEL_OF_ONE if single else LEVEL
    interval = metrics.two_way_interval(values, level, within=(-100.0 if compared else 0.0, 100.0))
    word = metrics.verdict(interval, DELTA) if compared else ""
    return Finding(name, interval.mean, interval.low, interval.high, len(seeds), word)


@cache
def values_of(name: str, folder: Path | None = None) -> tuple[list[int], np.ndarray]:
    """The seeds of a finding and, for each of them and each pair of identities, its pseudo-value in points.

    A seed counts if both arms have it at all manipulations, also for one of them. Raises ValueError if none does.
    """
    sides, _, measure = name.partition(", ")
    sides, _, manipulation = sides.partition(": ")
    arms = sides.split(" - ")
    known = sorted({manipulations_of(arm) for arm in arms})
    chosen = (manipulation,) if manipulation else known[0]
    if len(known) > 1 or not set(chosen) <= set(known[0]):
        raise ValueError(f"{name!r} compares what was trained on {known}; expected the same for both, and one of these")
    found = [[_pseudo_values(arm, each, measure or "auc", folder) for arm in arms] for each in chosen]
    seeds = sorted(set.intersection(*(seeds_of(arm, folder) for arm in arms)))
    if not seeds:
        grids = "protocol, protocol-parts, protocol-c23, beyond and ablation"
        raise ValueError(f"no seed has all of {name!r} on {manipulations_of(arms[0])}; sweep the grids {grids}")
    places = [[np.stack([values[seed] for seed in seeds]) for values in place] for place in found]
    return seeds, 100 * np.mean([place[0] - place[1] if len(arms) > 1 else place[0] for place in places], axis=0)


@cache
def _pseudo_values(arm: str, manipulation: str, measure: str, folder: Path | None) -> dict[int, np.ndarray]:
    """For each seed what each pair of identities adds to the measure."""
    found, by_video = {}, "video" in arm.split() or measure.startswith("video")
    rows = rows_of(arm, manipulation, folder)
    if rows["seed"].duplicated().any():
        raise ValueError(f"several trainings of {arm!r} on {manipulation} have one seed; they differ in recipe, or in code")
    for row in rows.itertuples():
        seen = read_predictions(row.key, table_of(arm, folder))
        seen = seen[seen["split"] == ("large" if "large" in set(seen["split"]) else "test")]  # the people of the protocol, or of FF++
        labels, videos, odds = seen["label"], seen["video"], seen["log_odds"]
        metric, answers = metrics.auc, odds
        if by_video:
            answers, labels, videos = metrics.by_video(_probability(odds), labels, videos)
        if measure.endswith("accuracy"):
            metric, answers = metrics.accuracy, answers if by_video else _probability(answers)
        people = _people(tuple(videos.tolist()))
        found[row.seed] = metrics.pseudo_values(metric, np.asarray(answers)[None], np.asarray(labels), people)[0]
    return found


@cache
def _table(path: Path) -> pd.DataFrame:
    return on_the_same_crops(read_results(path))


@cache
def _people(videos: tuple[str, ...]) -> np.ndarray:
    return metrics.identities(videos)


def rows_of(arm: str, manipulation: str | None = None, folder: Path | None = None) -> pd.DataFrame:
    """The rows of an arm, of students; "raw" stands for the teachers. Raises ValueError for words that an arm does not have."""
    rows = _table(table_of(arm, folder))
    arm, *words = arm.split()
    distiller, _, start = ("none@noise" if arm == "raw" else arm).partition("@")
    start, _, epochs = start.partition("+")
    settings = {name: _value(text) for name, _, text in (word.partition("=") for word in words if "=" in word)}
    profile = next(filter(PROFILES.get, words), None)
    if unknown := {word for word in words if "=" not in word} - {"c23", "video", *TABLES}:
        raise ValueError(f"an arm has no {sorted(unknown)}; it may have {['c23', 'video', *TABLES]}, and settings such as 'views=3'")
    epochs = epochs or ("2" if "more" in words else "8")  # four times the crops in an epoch
    wanted = {"distiller": distiller, "start": start, "changes": "{}" if epochs == "8" else f'{{"epochs": {epochs}}}'}
    wanted |= {"settings": str(Settings(settings))} | ({"profile": profile, "detector": PROFILES[profile]} if profile else {})
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    rows = rows[rows["quality"] == ("raw" if arm == "raw" else "c23" if "c23" in words else "c40")]
    return rows if manipulation is None else rows[rows["manipulation"] == manipulation]


def _value(text: str):
    """A setting as JSON, or else as text."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def table_of(arm: str, folder: Path | None = None) -> Path:
    """The file with the rows of an arm."""
    name = next((table for word, table in TABLES.items() if word in arm.split()), "protocol")
    return folder / f"{name}.csv" if folder else results_file(name=name)


def manipulations_of(arm: str) -> tuple[str, ...]:
    """What an arm is averaged over."""
    return ABLATED if PROFILES.keys() & arm.split() else FIVE


@cache
def seeds_of(arm: str, folder: Path | None = None) -> set[int]:
    """The seeds that an arm has at every manipulation."""
    rows, wanted = rows_of(arm, folder=folder), manipulations_of(arm)
    counts = rows[rows["manipulation"].isin(wanted)].groupby("seed")["manipulation"].nunique()
    return set(counts.index[counts == len(wanted)])


def short_verdict(found: Finding) -> str:
    """For tables: "within δ" instead of "no difference larger than δ"."""
    return found.verdict.replace("no difference larger than", "within")


def _probability(odds):
    return 1 / (1 + np.exp(-np.asarray(odds)))


def stated(text: str) -> list[tuple[str, str, str]]:
    """What a text states: as it stands there, as the rows have it, and the name."""
    found = []
    for words, name in STATED.findall(text):
        kind = name.partition(" ")[0]
        now = finding(name.removeprefix(f"{kind} ") if kind in ("verdict", "seeds") else name)
        says = {"verdict": now.verdict, "seeds": f"{now.seeds} seeds"}.get(kind, str(now))
        found.append((words, says, name))
    return found


def pages(root: Path | None = None) -> list[Path]:
    """README and the pages of the book."""
    root = root or project_root()
    return [root / "README.md", *sorted((root / "book").glob("*.md")), *sorted((root / "book").glob("*.ipynb"))]


def refresh(root: Path | None = None) -> list[str]:
    """Write what the rows say into all pages; returns what was changed."""
    changed = []
    for path in pages(root):
        old = path.read_text(encoding="utf-8")
        new = old
        for words, now, name in stated(old):
            new = new.replace(f"**{words}**<!-- {name} -->", f"**{now}**<!-- {name} -->")
            changed += [f"{path.name}: {name}: {words} -> {now}"] * (words != now)
        if new != old:
            path.write_text(new, encoding="utf-8")
    return changed
