"""The tests that a claim may name: each takes the bench and the settings of the claim, and returns a finding.

* ``cell``: one cell of a table of the paper
* ``gains``: one setting against another, at several places
* ``looks``: the same for where networks look, from data/results/look.csv
* ``gains_in_the_tables``: the same question, put to the paper's own tables: does the text follow from them?
* ``hardest_in_the_table``: one manipulation against the others, for each model of table 1
* ``recall_and_accuracy``: do the two numbers of table 1 rank the models alike?
"""

from __future__ import annotations

import inspect
import math

from addlib.experiments import less, over_seeds, read_paper

from .bench import BACKBONE, Bench, setting
from .comparisons import ours, papers, places, summed
from .rules import TOLERANCE, Finding, decided

ZERO = "a baseline on other data: the zero from which the rest of its rows is counted"


def cell(
    bench: Bench, *, table, model, metric, manipulation, quality, detector, distiller, printed, eta=None
) -> Finding:
    """A cell of a table: on the paper's data its value, on others the sign of its difference to the baseline of its rows."""
    wanted = setting({"distiller": distiller} | ({} if eta is None else {"eta": eta}), detector)
    base = setting("none", detector if table == 3 else BACKBONE)
    place = manipulation, quality
    values = bench.measured(metric, wanted, quality)
    own = _interval(values, place)
    known = {"cell": printed, "measured": own.mean if own else math.nan, "profile": bench.profile}
    if bench.same_data:
        found, paper, allowed = own, printed, (printed - TOLERANCE, printed + TOLERANCE)
    elif wanted == base:
        return Finding("not attempted", ZERO, **known)
    else:
        found = _interval(less(values, bench.measured(metric, base, quality)), place)
        paper = round(printed - bench.printed(metric, *place, base), 6)
        allowed = (0, math.inf) if paper > 0 else (-math.inf, 0)
    if found is None:
        missing = bench.remedy(*place, base if own else wanted)
        return Finding("not attempted", f"missing: {missing}", paper, **known)
    status = decided(found.low, found.high, *allowed) if paper else "undecided"
    why = "one seed has no interval" if found.seeds == 1 else ""
    return Finding(status, why, paper, found.mean, found.low, found.high, found.seeds, **known)


def _interval(values, place):
    """Interval over the seeds at one place, or None."""
    here = values[[index[:2] == place for index in values.index]]
    return over_seeds(here).get(place)


def gains(bench: Bench, **claimed) -> Finding:
    """Difference of two settings on our rows, seed by seed; see ``places`` for what may be asked."""
    findings = {}
    for name, place in places(**claimed).items():
        findings[name] = _measured(bench, ours(bench, *place), papers(bench, *place), **claimed)
    return summed(findings, **claimed)


def looks(bench: Bench, *, measure, condition="all", **claimed) -> Finding:
    """The same for where the networks look: a measure of data/results/look.csv under a condition, times 100."""
    findings = {}
    for name, (_, *place) in places(**claimed).items():
        findings[name] = _measured(bench, ours(bench, (measure, condition), *place), None, **claimed)
    return summed(findings, **claimed)


def _measured(bench, found, paper, above=0.0, below=math.inf, **_) -> Finding:
    """The finding at one place."""
    if isinstance(found, str):
        return Finding("not attempted", found)
    status = decided(found.low, found.high, above, below)
    numbers = (math.nan if paper is None else paper, found.mean, found.low, found.high, found.seeds)
    return Finding(status, "", *numbers, bench.profile)


def gains_in_the_tables(bench: Bench, *, largest=False, **claimed) -> Finding:
    """The same difference in the paper's tables, a number without an interval. largest: the claim is about the largest only."""
    findings = {}
    for name, place in places(**claimed).items():
        value = papers(bench, *place)
        if value is None:
            raise ValueError(f"the paper's tables do not have {name}")
        findings[name] = _exact(value, claimed.get("above", 0.0), claimed.get("below", math.inf))
    if largest:
        name = max(findings, key=lambda name: findings[name].paper)
        findings = {name: findings[name]}
    return summed(findings, **claimed)


def hardest_in_the_table(bench: Bench, *, manipulation) -> Finding:
    """For each model of table 1: how far its accuracy on one manipulation lies below that on any other."""
    wide = read_paper(1, bench.root).pivot(index=["model", "quality"], columns="manipulation", values="accuracy")
    below = wide.drop(columns=manipulation).min(axis=1) - wide[manipulation]
    return summed({" at ".join(name): _exact(value) for name, value in below.items()})


def recall_and_accuracy(bench: Bench, *, share=1.0) -> Finding:
    """Rank correlation of Recall@1 and accuracy over the models, for each manipulation and quality of table 1."""
    cells = read_paper(1, bench.root).groupby(["manipulation", "quality"])[["accuracy", "recall_at_1"]]
    return summed({" at ".join(name): _exact(part.rank().corr().iloc[0, 1]) for name, part in cells}, share=share)


def _exact(value: float, above=0.0, below=math.inf) -> Finding:
    """A number of the tables, which has no interval: inside or not."""
    value = round(float(value), 6)
    status = "reproduced" if above < value < below else "differs"
    return Finding(status, "", value, profile="tables")


CHECKS = {
    check.__name__: check
    for check in (cell, gains, looks, gains_in_the_tables, hardest_in_the_table, recall_and_accuracy)
}


def fit(test: str, settings: dict) -> None:
    """Raises TypeError or ValueError for settings that a test does not take."""
    signature = inspect.signature(CHECKS[test])
    taken = signature.bind(None, **settings).arguments
    if "claimed" in signature.parameters:
        places(**taken.get("claimed", {}))
