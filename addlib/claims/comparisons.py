"""One setting against another at several places: what is compared, the interval of ours, the paper's number, and the sum of it."""

from __future__ import annotations

import math
from itertools import product

import pandas as pd

from addlib.experiments import less, over_seeds, together
from addlib.experiments.paper import DETECTORS
from addlib.metrics import SeedInterval

from .bench import BACKBONE, METRICS, Bench, setting
from .rules import Finding, combined

MANIPULATIONS = ("NeuralTextures", "Deepfakes", "Face2Face", "FaceSwap", "FaceShifter")
QUALITIES = ("raw", "c23", "c40")


def places(
    *,
    of,
    over,
    manipulations=MANIPULATIONS,
    qualities=("c23", "c40"),
    detectors=(BACKBONE,),
    metric="accuracy",
    mean=False,
    best=False,
    above=0.0,
    below=math.inf,
    share=1.0,
):
    """Every comparison that a claim speaks of, by its name: the arguments of ``ours`` and ``papers``.

    of, over: a setting or a list of them, each with each; a setting is the name of a distiller, or a dict that may also name a
    detector or a quality of its own. best: against the best of ``over`` at each place. mean: of the mean over the manipulations.
    For ``summed``: above and below, what the claim allows, in points; share, of the comparisons that it needs.
    Raises ValueError for a name that does not exist.
    """
    for value, known in ((manipulations, MANIPULATIONS), (qualities, QUALITIES), (detectors, DETECTORS.values())):
        if not set(value) <= set(known):
            raise ValueError(f"{value} are not all of {list(known)}")
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; there are {list(METRICS)}")
    first, second = ([value] if isinstance(value, str | dict) else list(value) for value in (of, over))
    second = [second] if best else [[value] for value in second]
    groups = [list(manipulations)] if mean else [[name] for name in manipulations]
    found = {}
    for quality, detector, one, others in product(qualities, detectors, first, second):
        a, b = setting(one, detector), [setting(other, detector) for other in others]
        against = "the best other" if best else _words(b[0])
        for names in groups:
            where = "the mean" if mean else names[0]
            found[f"{_words(a)} over {against} on {where} at {quality}"] = (metric, names, quality, a, b)
    return found


def _words(wanted: dict) -> str:
    """A setting in short: what differs from the backbone without distillation."""
    usual = {"detector": BACKBONE, "distiller": "none"}
    special = {name: value for name, value in wanted.items() if usual.get(name) != value}
    words = [f"{name} {value:g}" if isinstance(value, float) else str(value) for name, value in special.items()]
    return " ".join(words) or "baseline"


def ours(bench: Bench, metric, manipulations, quality, a, others) -> SeedInterval | str:
    """Interval over the seeds of the difference, or what is missing."""
    settings = [a, *others]
    values = [bench.measured(metric, each, quality) for each in settings]
    for name, (each, scores) in product(manipulations, zip(settings, values, strict=True)):
        if (name, quality) not in scores.droplevel("seed").index:
            return bench.remedy(name, quality, each, "train" if isinstance(metric, str) else "look")
    differences = []
    for name in manipulations:
        one, *rest = (scores.xs(name, level="manipulation", drop_level=False) for scores in values)
        differences.append(less(one, max(rest, key=lambda scores: scores.mean())))
    difference = pd.concat(differences)
    if len(manipulations) > 1 and all(map(len, differences)):
        difference = together(difference)
    if not all(map(len, differences)) or difference.empty:
        return "no seed has all"
    (found,) = over_seeds(difference, "quality").values()
    return found


def papers(bench: Bench, metric, manipulations, quality, a, others) -> float | None:
    """The same difference in the paper's tables; None where they do not have it."""
    total = 0.0
    for name in manipulations:
        one, *rest = (bench.printed(metric, name, quality, each) for each in (a, *others))
        if one is None or None in rest:
            return None
        total += one - max(rest)
    return round(total / len(manipulations), 6)


def summed(findings: dict[str, Finding], above=0.0, below=math.inf, share=1.0, **_) -> Finding:
    """One finding of those at several places, with the numbers of the place that speaks most against the claim."""
    statuses = [found.status for found in findings.values()]
    several = len(findings) > 1
    words = []
    if several:
        counts = ", ".join(f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses))
        words.append(f"{len(findings)} comparisons: {counts}")
    missing = dict.fromkeys(found.why for found in findings.values() if found.status == "not attempted")
    if missing:
        words.append("missing: " + ", ".join(missing))
    status = combined(statuses, share)
    tried = {name: found for name, found in findings.items() if found.status != "not attempted"}
    if not tried:
        return Finding(status, "; ".join(words))

    def room(name: str) -> float:
        found = tried[name]
        # A number of the tables and one seed have no interval.
        low, high = {0: (found.paper, found.paper), 1: (found.ours, found.ours)}.get(
            found.seeds, (found.low, found.high)
        )
        return min(low - above, below - high)

    shown = min(tried, key=room)
    if several:
        words.append(f"shown: {shown}")
    if tried[shown].seeds == 1:
        words.append("one seed has no interval")
    return tried[shown]._replace(status=status, why="; ".join(words))
