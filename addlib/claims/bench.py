"""The rows of one profile, the paper's numbers and the grids, under the names of the paper."""

from __future__ import annotations

import json
from functools import cache, cached_property

import pandas as pd

from addlib.experiments import Cell, read_grid, read_paper, scores_of

BACKBONE = "resnet50"  # of tables 1 and 2
# The published code searches the training images for the nearest neighbour, where no frame of the same video is.
METRICS = {"accuracy": "accuracy", "recall_at_1": "recall_at_1_other"}
# Settings of the paper that depend on the detector.
SPECIAL = {"efficientnet_b0": {"gamma_fr": 0.001}}


def setting(value, detector: str = BACKBONE) -> dict:
    """A name of a distiller, or a dict of settings, as a dict with detector and distiller.

    Raises ValueError for a distiller or a setting that does not exist.
    """
    given = {"distiller": value} if isinstance(value, str) else dict(value)
    found = {"detector": detector, "distiller": "none"} | given
    Cell(**{"manipulation": "", "quality": ""} | found)
    return found


class Bench:
    """What claims are tested on. Settings are dicts in the paper's names: its ResNet-50 is the detector under test.

    rows: of ``read_results``. profile, recipe: which of them count. detector: in the place of the ResNet-50. look: rows of
    data/results/look.csv, where the networks look, or None.
    """

    def __init__(self, rows: pd.DataFrame, profile: str, detector: str, recipe: str, look=None, root=None):
        self.rows = rows[(rows["profile"] == profile) & (rows["recipe"] == recipe)]
        known = look is not None and "measure" in look
        self.look = look[(look["profile"] == profile) & (look["recipe"] == recipe)] if known else None
        self.profile, self.detector, self.root = profile, detector, root
        self.same_data = profile == "paper"
        self._scores = cache(self._measured)

    def name(self, detector: str) -> str:
        """Our detector for one of the paper's: the same, or its narrow form where only that has rows and it is not in use already."""
        if detector == BACKBONE:
            return self.detector
        narrow = f"{detector}_narrow"
        known = set(self.rows["detector"])
        return narrow if detector not in known and narrow in known - {self.detector} else detector

    def measured(self, metric: str | tuple, wanted: dict, quality: str) -> pd.Series:
        """``scores_of`` one setting, which may name a quality of its own; indexed as if it were ``quality``.

        metric: a number of the paper's tables, or (measure, condition) of ``look``, at the deepest stage.
        """
        return self._scores(metric, json.dumps(wanted, sort_keys=True), quality)

    def _measured(self, metric: str | tuple, wanted: str, quality: str) -> pd.Series:
        wanted = {"quality": quality} | self._own(json.loads(wanted))
        wanted["detector"] = self.name(wanted["detector"])
        if isinstance(metric, str):
            found = scores_of(self.rows, METRICS[metric], **wanted)
        elif self.look is None:
            found = scores_of(self.rows.iloc[:0], **wanted)
        else:
            measure, condition = metric
            rows = self.look[(self.look["measure"] == measure) & (self.look["condition"] == condition)]
            # Maps are of several stages and scores; what a network answers is of none.
            rows = rows[(rows["stage"] == rows["stage"].max()) & rows["score"].fillna("margin").eq("margin")]
            found = scores_of(rows.assign(accuracy=rows["value"]), **wanted).dropna()
        return found if wanted["quality"] == quality else found.rename({wanted["quality"]: quality}, level="quality")

    def _own(self, wanted: dict) -> dict:
        """A setting with what the paper does for its detector alone."""
        special = SPECIAL.get(wanted["detector"], {}) if wanted["distiller"] in ("fr", "add") else {}
        return special | wanted

    def printed(self, metric: str, manipulation: str, quality: str, wanted: dict) -> float | None:
        """The number of the paper's tables, in percent; None where it has none."""
        key = (metric, manipulation, wanted.get("quality", quality), *self._in_tables(wanted))
        return self._paper.get(key)

    @staticmethod
    def _in_tables(wanted: dict) -> tuple:
        rest = {name: value for name, value in wanted.items() if name not in ("detector", "distiller", "quality")}
        if wanted["distiller"] == "mv":
            rest = {"eta": 50.0} | rest
        return wanted["detector"], wanted["distiller"], json.dumps(rest, sort_keys=True)

    @cached_property
    def _paper(self) -> dict[tuple, float]:
        found = {}
        for row in pd.concat([read_paper(number, self.root) for number in (1, 2, 3)]).to_dict("records"):
            wanted = {name: row[name] for name in ("detector", "distiller")}
            wanted |= {"eta": row["eta"]} if row["distiller"] == "mv" else {}
            for metric in METRICS:
                if not pd.isna(row[metric]):
                    found[metric, row["manipulation"], row["quality"], *self._in_tables(wanted)] = row[metric]
        return found

    def remedy(self, manipulation: str, quality: str, wanted: dict, notebook: str = "train") -> str:
        """The command that gives a setting its rows, of the grid that is nearest to the profile."""
        # The setting may have a quality of its own.
        wanted = {"manipulation": manipulation, "quality": quality} | self._own(wanted)
        names = (self.name(wanted["detector"]), wanted["detector"])
        keys = [(notebook, *_key(Cell(**wanted | {"detector": name}))) for name in names]
        grids = [grid for key in dict.fromkeys(keys) for grid in self._grids.get(key, [])]
        for profile in (self.profile, "reader", "paper"):
            for grid, of in grids:
                if of == profile:
                    return f"addlib sweep {grid}" + ("" if profile == self.profile else f" (profile {profile})")
        return "no grid has it"

    @cached_property
    def _grids(self) -> dict[tuple, list[tuple[str, str]]]:
        """Names and profiles of the grids that hold a cell for a notebook, those of the paper's tables first."""
        from addlib.book.project import locate

        found = {}
        folder = locate(self.root).book / "experiments" / "grids"
        for path in sorted(folder.glob("*.yaml"), key=lambda path: ("table" not in path.stem, path.stem)):
            about, cells = read_grid(path)
            if about["profile"] not in ("smoke", "tuning"):
                for key in {_key(cell) for cell in cells if cell.changes == "{}"}:
                    found.setdefault((about["notebook"], *key), []).append((path.stem, about["profile"]))
        return found


def _key(cell: Cell) -> tuple:
    return cell.manipulation, cell.quality, cell.detector, cell.distiller, json.dumps(cell.settings, sort_keys=True)
