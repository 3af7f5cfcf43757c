"""What the paper claims, and what became of it: data/claims.yml against the rows of results.

A test compares a number with the range that a claim allows: more than 0 for "A is better than B", the printed value give or
take two points for an accuracy on the same data. The number is known as a 95 % interval over the seeds, of differences seed by
seed where two settings are compared. By :func:`addlib.metrics.lies`, the claim is *reproduced* if the interval is inside,
*differs* if it is outside, else *undecided*; so is one seed, which has no interval. *Not attempted*: nothing speaks to it.

A claim about several places is reproduced if it is at every one, differs if it differs at one; "in most cases" (``share``)
needs fewer and may lose more. On other data than the paper's, a cell of its tables claims the sign of its difference to the
baseline of its rows; a baseline then claims nothing.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from addlib.files import project_root
from addlib.metrics import lies
from addlib.results import Settings, mean_over_manipulations, over_seeds, paired_by_seed, read_paper, scores_of
from addlib.sweep import read_grid

STATUSES = ("reproduced", "differs", "undecided", "not attempted")
KINDS = ("number", "statement", "mathematics", "proposal")
# Points by which an accuracy on the paper's own data may differ: one standard error of 0.9 on its 280 test videos.
TOLERANCE = 2.0
FIVE = ("NeuralTextures", "Deepfakes", "Face2Face", "FaceSwap", "FaceShifter")
# The published code searches the training images for the nearest neighbour, where no frame of the same video is.
OURS = {"accuracy": "accuracy", "auc": "auc", "recall_at_1": "recall_at_1_other"}
PRINTED = {"accuracy": "accuracy", "recall_at_1": "Recall@1"}
NEEDED = {"id", "source", "kind", "chapter", "statement"}
KNOWN = NEEDED | {"table", "test", "with", "status", "evidence", "why"}
EVIDENCE = re.compile(r"tests/[\w/]+\.py::test_\w+|book/\d\d-[a-z0-9-]+\.ipynb#[\w-]+")


@dataclass(frozen=True)
class Claim:
    """One claim: its name, its place in the paper, its kind, our wording, and the chapter that treats it; then one of three.

    test and settings: for what rows or tables decide. status and evidence: for what a proof or a measurement shows, a test
    function (``tests/….py::test_…``) or a cell that asserts it (``book/….ipynb#cell``). why alone: for what was not attempted.
    """

    id: str
    source: str
    kind: str
    statement: str
    chapter: str
    test: str | None = None
    settings: dict = field(default_factory=dict, hash=False)
    status: str | None = None
    evidence: tuple[str, ...] = ()
    why: str = ""


class Finding(NamedTuple):
    """About a claim, or one of its places. paper, ours, low, high: of what is tested, in points; cell, measured: in percent."""

    status: str
    why: str = ""
    paper: float = math.nan
    ours: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0
    profile: str | None = None
    cell: float = math.nan
    measured: float = math.nan


class Setting(NamedTuple):
    """What is compared, in the paper's names. quality: its own, where that differs; condition: of data/results/look.csv."""

    detector: str = "resnet50"
    distiller: str = "none"
    settings: str = "{}"
    quality: str | None = None
    condition: str | None = None

    @classmethod
    def of(cls, given: str | dict, **usual) -> Setting:
        """From the name of a distiller, or a dict."""
        found = usual | ({"distiller": given} if isinstance(given, str) else given)
        return cls(**found | {"settings": str(Settings(found.get("settings")))})

    def __str__(self) -> str:
        words = [
            name for name in (self.quality, self.detector, self.distiller) if name not in (None, "resnet50", "none")
        ]
        words += [f"{name} {value}" for name, value in Settings(self.settings).items()]
        return " ".join(words + [self.condition] * (self.condition not in (None, "all"))) or "baseline"


def read_claims(path, root=None) -> list[Claim]:
    """The claims of a ledger, a YAML list; an entry with ``table`` stands for all cells of that table of the paper.

    An entry whose ``metric`` is a list stands for a claim each. Raises ValueError, naming file and entry, for what does not fit.
    """
    import yaml

    claims = {}
    for number, entry in enumerate(yaml.safe_load(Path(path).read_text(encoding="utf-8")), 1):
        where = f"{path}, entry {number}" + (f" ({entry.get('id')})" if isinstance(entry, dict) else "")
        try:
            found = _claims(entry, root)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error
        for claim in found:
            if claim.id in claims:
                raise ValueError(f"{where}: the id {claim.id!r} appears twice")
            claims[claim.id] = claim
    return list(claims.values())


def _claims(entry: dict, root) -> list[Claim]:
    if not isinstance(entry, dict) or NEEDED - set(entry) or set(entry) - KNOWN or not all(entry.values()):
        given = sorted(entry) if isinstance(entry, dict) else entry
        raise ValueError(
            f"has {given}; expected {sorted(NEEDED)}, some of {sorted(KNOWN - NEEDED)}, none empty, no result"
        )
    test, evidence, settings = entry.get("test"), entry.get("evidence", []), entry.get("with", {})
    evidence = tuple(evidence if isinstance(evidence, list) else [evidence])
    if sum([bool(test), bool(evidence)]) + (not test and not evidence and "why" in entry) != 1:
        raise ValueError("expected a test, or evidence, or why it was not attempted")
    if (
        entry["kind"] not in KINDS
        or bool(evidence) != ("status" in entry)
        or entry.get("status", "differs") not in STATUSES[:3]
    ):
        raise ValueError(f"expected a kind of {KINDS}, and with evidence, only there, a status of {STATUSES[:3]}")
    if not all(EVIDENCE.fullmatch(each) for each in evidence):
        raise ValueError(f"evidence is {evidence}; expected tests/….py::test_… or book/….ipynb#cell")
    if (test == "cell") != ("table" in entry) or test not in (None, *CHECKS):
        raise ValueError(f"unknown test {test!r}; expected one of {sorted(CHECKS)}, cell with a table and no other")
    about = {name: entry[name] for name in NEEDED}
    if test == "cell":
        rows = read_paper(entry["table"], root).to_dict("records")
        return [_cell(about, entry["table"], row, metric) for row in rows for metric in PRINTED if metric in row]
    metrics = settings.get("metric", "accuracy")
    found = []
    for metric in metrics if isinstance(metrics, list) else [metrics]:
        given = settings | ({"metric": metric} if "metric" in settings else {})
        if test:
            signature = inspect.signature(CHECKS[test])
            arguments = signature.bind(None, **given).arguments
            list(places(**arguments.get("claimed", {})) if "claimed" in signature.parameters else ())
        again = (
            {"id": f"{about['id']}-in-{metric}", "statement": f"{about['statement']} (By {metric.upper()}.)"}
            if found
            else {}
        )
        rest = {"status": entry.get("status"), "evidence": evidence, "why": entry.get("why", "")}
        found.append(Claim(**about | again, test=test, settings=given, **rest))
    return found


def _cell(about: dict, table: int, row: dict, metric: str) -> Claim:
    names = ("manipulation", "quality", "detector", "distiller", "settings", "model")
    settings = {name: row[name] for name in names} | {"table": table, "metric": metric, "printed": row[metric]}
    words = {name: row[name] for name in ("manipulation", "quality", "model")} | {"metric": PRINTED[metric]}
    new = {"id": "/".join([about["id"], *words.values()]), "statement": about["statement"].format(**words)}
    return Claim(**about | new, test="cell", settings=settings)


def evaluate(
    claims: list[Claim], rows: pd.DataFrame, *, profile="reader-cpu", detector="resnet18_narrow", recipe="mini",
    look: pd.DataFrame | None = None, root=None,
) -> pd.DataFrame:  # fmt: skip
    """Test every claim on the rows of one profile.

    Args:
        claims: of :func:`read_claims`.
        rows: of ``read_results``.
        profile, recipe: which rows count.
        detector: ours in the place of the paper's ResNet-50.
        look: rows of data/results/look.csv; without them, what they decide is not attempted.
        root: of the project, for tables and grids.

    Returns:
        A row for each claim: the fields of :class:`Claim` but its settings, and of :class:`Finding`. profile is None where
        no training was looked at, "tables" where the paper's tables were.
    """
    bench = Bench(rows, profile, detector, recipe, look, root)
    lines = []
    for claim in claims:
        found = CHECKS[claim.test](bench, **claim.settings) if claim.test else Finding(claim.status or "not attempted")
        why = "; ".join(filter(None, [found.why, claim.why]))
        lines.append(asdict(claim) | found._replace(why=why)._asdict())
    return pd.DataFrame(lines).drop(columns="settings")


class Bench:
    """The rows of one profile, the paper's numbers and the grids, under the paper's names."""

    def __init__(self, rows, profile, detector, recipe, look=None, root=None):
        self.rows = rows[(rows["profile"] == profile) & (rows["recipe"] == recipe)]
        if look is None or "measure" not in look:
            look = rows.iloc[:0].assign(measure="", condition="")
        self.look = look[(look["profile"] == profile) & (look["recipe"] == recipe)]
        self.profile, self.detector, self.root = profile, detector, root
        self.measured = cache(self._measured)

    def name(self, detector: str) -> str:
        """Our detector for one of the paper's: the same, or its narrow form where only that has rows."""
        known, narrow = set(self.rows["detector"]), f"{detector}_narrow"
        return (
            self.detector
            if detector == "resnet50"
            else narrow
            if narrow in known - {detector} and detector not in known
            else detector
        )

    def _measured(self, metric: str, wanted: Setting, quality: str) -> pd.Series:
        """``scores_of`` one setting, which may name a quality of its own; indexed as if it were ``quality``."""
        rows, own = self.rows, wanted.quality or quality
        if wanted.condition:
            rows = self.look[(self.look["measure"] == metric) & (self.look["condition"] == wanted.condition)]
            if rows.empty:
                return scores_of(self.rows.iloc[:0])
            # Maps are of several stages and scores; what a network answers is of none.
            rows = rows[(rows["stage"] == rows["stage"].max()) & rows["score"].fillna("margin").eq("margin")]
            rows, metric = rows.assign(accuracy=rows["value"]), "accuracy"
        chosen = {
            "detector": self.name(wanted.detector),
            "distiller": wanted.distiller,
            "settings": Settings(wanted.settings),
        }
        return (
            scores_of(rows.assign(accuracy=rows.get("accuracy")), OURS[metric], quality=own, **chosen)
            .dropna()
            .rename({own: quality}, level="quality")
        )

    def printed(self, metric: str, manipulation: str, quality: str, wanted: Setting) -> float | None:
        """The number of the paper's tables, in percent; None where it has none."""
        return self._paper.get((metric, manipulation, wanted.quality or quality, *wanted[:3]))

    @cached_property
    def _paper(self) -> dict[tuple, float]:
        names = ["manipulation", "quality", *Setting._fields[:3]]
        tables = pd.concat([read_paper(number, self.root) for number in (1, 2, 3)])
        return {(m, *row[:5]): row[5] for m in PRINTED for row in tables[[*names, m]].dropna().itertuples(index=False)}

    def remedy(self, manipulation: str, quality: str, wanted: Setting) -> str:
        """The command that gives a setting its rows, of the grid that is nearest to the profile."""
        place = ("look" if wanted.condition else "train", manipulation, wanted.quality or quality)
        keys = [(*place, name, *wanted[1:3]) for name in (self.name(wanted.detector), wanted.detector)]
        return next((self._grids[key] for key in keys if key in self._grids), "no grid has it")

    @cached_property
    def _grids(self) -> dict[tuple, str]:
        """Commands by notebook and what it is run on; those of the profile and of the paper's tables first."""
        found, order = {}, [self.profile, "reader", "paper"]
        grids = [
            (path.stem, *read_grid(path))
            for path in (project_root(self.root) / "book" / "experiments" / "grids").glob("*.yaml")
        ]
        grids = [grid for grid in grids if grid[1]["profile"] in order]
        for stem, about, runs in sorted(
            grids, key=lambda grid: (order.index(grid[1]["profile"]), "table" not in grid[0], grid[0])
        ):
            # A network that was looked at before this was measured has rows, but of other code.
            text = f"addlib sweep {stem}" + (" --stale" if about["notebook"] == "look" else "")
            text += "" if about["profile"] == self.profile else f" (profile {about['profile']})"
            for run in runs:
                if not run.changes and run.start == "noise":
                    key = (run.manipulation, run.quality, run.detector, run.distiller, str(run.settings))
                    found.setdefault((about["notebook"], *key), text)
        return found

    def gain(self, metric: str, manipulations: Sequence[str], quality: str, a: Setting, others: Sequence[Setting]):
        """Interval over the seeds of a setting minus the best of others, in the mean of manipulations, or what is missing."""
        values = [self.measured(metric, each, quality) for each in (a, *others)]
        for name, (each, scores) in product(manipulations, zip((a, *others), values, strict=True)):
            if (name, quality) not in scores.droplevel("seed").index:
                return self.remedy(name, quality, each)
        differences = []
        for name in manipulations:
            one, *rest = (scores.xs(name, level="manipulation", drop_level=False) for scores in values)
            differences.append(paired_by_seed(one, max(rest, key=lambda scores: scores.mean())))
        difference = mean_over_manipulations(pd.concat(differences))
        if not all(map(len, differences)) or difference.empty:
            return "no seed has all"
        return over_seeds(difference, "quality")[quality]

    def printed_gain(
        self, metric: str, manipulations: Sequence[str], quality: str, a: Setting, others: Sequence[Setting]
    ):
        """The same difference in the paper's tables; NaN where they do not have it."""
        sides = [[self.printed(metric, name, quality, each) for each in (a, *others)] for name in manipulations]
        if a.condition or None in sum(sides, []):
            return math.nan
        return round(sum(one - max(rest) for one, *rest in sides) / len(sides), 6)


def places(
    *, of, over, manipulations=FIVE, qualities=("c23", "c40"), detectors=("resnet50",), metric="accuracy", condition=None, mean=False,
    best=False, above=0.0, below=math.inf, share=1.0,
):  # fmt: skip
    """Every comparison that a claim speaks of: its name, and the arguments of ``Bench.gain``.

    Args:
        of, over: see :class:`Setting`, or lists of such, each with each.
        manipulations, qualities, detectors: where.
        metric: in ``OURS``, or with a condition a measure of data/results/look.csv.
        condition: of both sides, unless they name their own.
        mean: of the mean over the manipulations.
        best: against the best of ``over`` at each place.
        above, below: what the claim allows, in points.
        share: of the comparisons that the claim needs.
    """
    first, second = ([side] if isinstance(side, str | dict) else side for side in (of, over))
    if not set(manipulations) <= set(FIVE) or not set(qualities) <= {"raw", "c23", "c40"}:
        raise ValueError(f"{manipulations} at {qualities}; expected some of {FIVE} at raw, c23 or c40")
    for quality, detector, one in product(qualities, detectors, first):
        a, *others = (Setting.of(each, detector=detector, condition=condition) for each in (one, *second))
        if a.condition is None and metric not in OURS:
            raise ValueError(f"unknown metric {metric!r}; there are {list(OURS)}")
        for rest in [others] if best else [[each] for each in others]:
            for names in [manipulations] if mean else [[name] for name in manipulations]:
                where = f"{'the best other' if best else rest[0]} on {'the mean' if mean else names[0]} at {quality}"
                yield f"{a} over {where}", (metric, names, quality, a, rest)


def _status(interval, above=0.0, below=math.inf) -> str:
    return STATUSES[("inside", "outside", "not known").index(lies(interval, above, below))]


def combined(statuses: Sequence[str], share: float = 1.0) -> str:
    """Status of a claim about several places, of which it needs the given share."""
    needed = math.ceil(share * len(statuses) - 1e-9)
    if statuses.count("reproduced") >= needed:
        return "reproduced"
    if statuses.count("differs") > len(statuses) - needed:
        return "differs"
    return "not attempted" if set(statuses) == {"not attempted"} else "undecided"


def cell(
    bench: Bench, *, table, model, metric, manipulation, quality, detector, distiller, printed, settings
) -> Finding:
    """A cell of a table: on the paper's data its value, on others the sign of its difference to the baseline of its rows."""
    wanted, base = Setting(detector, distiller, settings), Setting(detector if table == 3 else "resnet50")
    place, paper, allowed = (manipulation, quality), printed, (printed - TOLERANCE, printed + TOLERANCE)
    own = found = over_seeds(bench.measured(metric, wanted, quality)).get(place)
    known = {"cell": printed, "measured": own.mean if own else math.nan, "profile": bench.profile}
    if bench.profile != "paper":
        if wanted == base:
            why = "a baseline on other data: the zero from which the rest of its rows is counted"
            return Finding("not attempted", why, **known)
        found = bench.gain(metric, [manipulation], quality, wanted, [base])
        paper = round(printed - bench.printed(metric, *place, base), 6)
        allowed = (0, math.inf) if paper > 0 else (-math.inf, 0)
    if found is None or isinstance(found, str):
        return Finding("not attempted", f"missing: {found or bench.remedy(*place, wanted)}", paper, **known)
    status = _status(found, *allowed) if paper else "undecided"
    why = "one seed has no interval" if found.seeds == 1 else ""
    return Finding(status, why, paper, found.mean, found.low, found.high, found.seeds, **known)


def gains(bench: Bench, **claimed) -> Finding:
    """Difference of two settings on our rows, seed by seed; see :func:`places` for what may be asked."""
    allowed = {name: claimed[name] for name in ("above", "below") if name in claimed}
    findings = {}
    for name, place in places(**claimed):
        found = bench.gain(*place)
        if isinstance(found, str):
            findings[name] = Finding("not attempted", found)
        else:
            numbers = (bench.printed_gain(*place), found.mean, found.low, found.high, found.seeds, bench.profile)
            findings[name] = Finding(_status(found, **allowed), "", *numbers)
    return _summed(findings, **claimed)


def gains_in_the_tables(bench: Bench, *, largest=False, **claimed) -> Finding:
    """The same difference in the paper's tables, a number without an interval. largest: the claim is about the largest only."""
    allowed = {name: claimed[name] for name in ("above", "below") if name in claimed}
    findings = {name: _exact(bench.printed_gain(*place), **allowed) for name, place in places(**claimed)}
    if largest:
        findings = dict([max(findings.items(), key=lambda item: item[1].paper)])
    return _summed(findings, **claimed)


def hardest_in_the_table(bench: Bench, *, manipulation) -> Finding:
    """For each model of table 1: how far its accuracy on one manipulation lies below that on any other."""
    wide = read_paper(1, bench.root).pivot(index=["model", "quality"], columns="manipulation", values="accuracy")
    below = wide.drop(columns=manipulation).min(axis=1) - wide[manipulation]
    return _summed({" at ".join(name): _exact(value) for name, value in below.items()})


def recall_and_accuracy(bench: Bench, *, share=1.0) -> Finding:
    """Rank correlation of Recall@1 and accuracy over the models, for each manipulation and quality of table 1."""
    cells = read_paper(1, bench.root).groupby(["manipulation", "quality"])[["accuracy", "recall_at_1"]]
    return _summed({" at ".join(name): _exact(part.rank().corr().iloc[0, 1]) for name, part in cells}, share=share)


CHECKS = {
    check.__name__: check for check in (cell, gains, gains_in_the_tables, hardest_in_the_table, recall_and_accuracy)
}


def _exact(value: float, above=0.0, below=math.inf) -> Finding:
    """A number of the tables, which has no interval: inside or not."""
    value = round(float(value), 6)
    return Finding("reproduced" if above < value < below else "differs", "", value, profile="tables")


def _summed(findings: dict[str, Finding], above=0.0, below=math.inf, share=1.0, **_) -> Finding:
    """One finding of those at several places, with the numbers of the place that speaks most against the claim."""
    statuses, words = [found.status for found in findings.values()], []
    if len(findings) > 1:
        counts = ", ".join(f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses))
        words.append(f"{len(findings)} comparisons: {counts}")
    missing = dict.fromkeys(found.why for found in findings.values() if found.status == "not attempted")
    words += ["missing: " + ", ".join(missing)] if missing else []
    status = combined(statuses, share)
    tried = {name: found for name, found in findings.items() if found.status != "not attempted"}
    if not tried:
        return Finding(status, "; ".join(words))

    def favour(name: str) -> tuple:
        """Decided against, then known with an interval, then how far inside the range the number itself is, not its bounds."""
        found = tried[name]
        value = found.ours if found.seeds else found.paper
        return found.status != "differs", found.seeds == 1, min(value - above, below - value)

    shown = min(tried, key=favour)
    words += [f"shown: {shown}"] if len(findings) > 1 else []
    words += ["one seed has no interval"] if tried[shown].seeds == 1 else []
    return tried[shown]._replace(status=status, why="; ".join(words))
