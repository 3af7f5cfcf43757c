"""From rows of results to what a table shows: one metric of one setting, by seed; intervals; differences seed by seed."""

from __future__ import annotations

import pandas as pd

from addlib.metrics import SeedInterval, seed_interval

from .cells import SETTINGS

PLACE = ["manipulation", "quality", "seed"]
# Shares, which tables show in percent.
METRICS = (
    "accuracy", "auc", "eer", "ece", "recall_at_1", "recall_at_1_other", "video_accuracy", "video_auc", "val_accuracy", "val_auc",
)  # fmt: skip


def scores_of(rows: pd.DataFrame, metric: str = "accuracy", **settings) -> pd.Series:
    """One metric of all trainings of one setting, in percent, by manipulation, quality and seed.

    rows: of ``read_results``. metric: a name in ``METRICS``. settings: columns of the rows, each with a value or a list of
    values, such as ``profile="reader-cpu", distiller="add", beta=16``. Settings of a named distiller that are not given have
    their default (``addlib.experiments.SETTINGS``), and so has the recipe, which is then unchanged: trainings of an ablation
    do not slip in.
    Returns a Series; empty if there is no such training.
    Raises ValueError for a metric or column that does not exist, and if two trainings stand at one place.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; there are {list(METRICS)}")
    unknown = set(settings) - set(rows.columns)
    if unknown:
        raise ValueError(f"rows have no {sorted(unknown)}; they have {list(rows.columns)}")
    wanted = {"changes": "{}"} | SETTINGS.get(settings.get("distiller"), {}) | settings
    chosen = pd.Series(True, index=rows.index)
    for name, value in wanted.items():
        if value is None:
            chosen &= rows[name].isna()
        else:
            chosen &= rows[name].isin(value if isinstance(value, list | tuple) else [value])
    part = rows[chosen]
    twice = part[part.duplicated(PLACE)]
    if len(twice):
        place = " ".join(map(str, twice.iloc[0][PLACE]))
        several = [name for name in rows.columns if name not in METRICS and part[name].nunique(dropna=False) > 1]
        raise ValueError(f"several trainings at {place}; they differ in some of {several}: name which")
    return 100 * part.set_index(PLACE)[metric].sort_index()


def over_seeds(values: pd.Series, by=("manipulation", "quality")) -> dict[object, SeedInterval]:
    """The interval over the seeds for each group of a Series of ``scores_of`` or of a difference of two.

    by: one level, or several, in whose groups the values differ by the seed alone.
    Returns intervals by the name of the group, a tuple if there are several levels.
    Raises ValueError if a seed appears twice in a group.
    """
    found = {}
    for group, part in values.groupby(level=by if isinstance(by, str) else list(by)):
        if part.index.get_level_values("seed").has_duplicates:
            raise ValueError(f"{group} has a seed twice; group by more levels, or take the mean over them first")
        found[group] = seed_interval(part)
    return found


def less(values: pd.Series, base: pd.Series) -> pd.Series:
    """Differences where both have the same manipulation, quality and seed; the paired comparison of two settings."""
    return (values - base).dropna()


def together(values: pd.Series) -> pd.Series:
    """The mean over the manipulations for each quality and seed, of seeds that have every manipulation there is."""
    by = values.groupby(level=["quality", "seed"])
    manipulations = values.index.get_level_values("manipulation").nunique()
    return by.mean()[by.size() == manipulations]


def written(found: SeedInterval | None, sign: str = "", digits: int = 1) -> str:
    """Mean ± half the width of the interval, as tables show it; one seed has no interval; "-" for None."""
    if found is None:
        return "-"
    half = f" ± {found.high - found.mean:.{digits}f}" if found.seeds > 1 else ""
    return f"{found.mean:{sign}.{digits}f}{half}"
