"""What the paper claims, and what became of it: data/claims.yml against the rows of results.

A test compares a number with the range that a claim allows: more than 0 for "A is better than B", the printed value give or
take two points for an accuracy on the same data. The number is known as a 95 % interval over the seeds, of differences seed by
seed where two settings are compared; by the rows of the protocol at 99 % for one manipulation. By :func:`addlib.metrics.lies`,
the claim is *reproduced* if the interval is inside, *differs* if it is outside, else *undecided*; so is one seed, which has no
interval. *Not attempted*: nothing speaks to it.

A claim about several places is reproduced if it is at every one, differs if it differs at one; "in most cases" (``share``)
needs fewer and may lose more. On other data than the paper's, a cell of its tables claims the sign of its difference to the
baseline of its rows; a baseline then claims nothing.

Where the rows of the protocol (data/protocol.md) have both sides, with three seeds or more, they decide alone: their interval
covers the test people too, and it is the one that the page "What we found" states. So do those of ablation.csv, on the same test
people, where a side has settings of its own.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from math import ceil, inf, isnan, nan
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from addlib.files import project_root
from addlib.metrics import SeedInterval, lies
from addlib.results import Settings, mean_over_manipulations, over_seeds, paired_by_seed, read_paper, scores_of
from addlib.sweep import read_grid
from figures import MANIPULATION_ORDER

STATUSES = ("reproduced", "differs", "undecided", "not attempted")
# Points by which an accuracy on the paper's own data may differ: one standard error of 0.9 on its 280 test videos.
TOLERANCE = 2.0
FIVE = MANIPULATION_ORDER
# The published code searches the training images for the nearest neighbour, where no frame of the same video is.
OURS = {"accuracy": "accuracy", "auc": "auc", "recall_at_1": "recall_at_1_other"}
PRINTED = {"accuracy": "accuracy", "recall_at_1": "Recall@1"}
NEEDED = ["id", "source", "kind", "chapter", "statement"]
OPTIONAL = ["table", "test", "with", "status", "evidence", "why"]

# Name, place in the paper, kind, our wording, and the chapter that treats it; then a test with its settings, which rows or
# tables decide; or a status with evidence, a test function or a cell that asserts it; or why alone: not attempted.
Claim = namedtuple("Claim", [*NEEDED, *"test settings status evidence why".split()], defaults=[None, {}, None, [], ""])
# About a claim, or one of its places. paper, ours, low, high: of what is tested, in points; cell, measured: in percent.
# level: of the interval, in percent.
FIELDS = {"status": "", "why": "", "paper": nan, "ours": nan, "low": nan, "high": nan, "seeds": 0, "profile": None, "level": nan}
Finding = namedtuple("Finding", [*FIELDS, "cell", "measured"], defaults=[*FIELDS.values(), nan, nan])


class OfOne(SeedInterval):
    """Of one manipulation by the protocol: at 99 %."""


class OfOthers(SeedInterval):
    """Of two conditions whose crops show different people: seeds alone decide nothing there."""


class Setting(NamedTuple):
    """What is compared, in the paper's names. quality: its own, where that differs; condition: of data/results/look.csv."""

    detector: str = "resnet50"
    distiller: str = "none"
    settings: str = "{}"
    quality: str | None = None
    condition: str | None = None

    @classmethod
    def of(cls, given: str | dict, **usual) -> Setting:
        found = usual | ({"distiller": given} if isinstance(given, str) else given)
        return cls(**found | {"settings": str(Settings(found.get("settings")))})

    def __str__(self) -> str:
        words = [self.quality, self.detector, self.distiller]
        words += [f"{name} {value}" for name, value in Settings(self.settings).items()] + [self.condition]
        return " ".join(word for word in words if word not in (None, "resnet50", "none", "all")) or "baseline"


def read_claims(path, root=None) -> list[Claim]:
    """The claims of a YAML list; an entry with ``table`` stands for all cells of it, one with several metrics for a claim each."""
    claims = {}
    for number, entry in enumerate(yaml.safe_load(Path(path).read_text(encoding="utf-8")), 1):
        try:
            for claim in _claims(entry, root):
                if claims.setdefault(claim.id, claim) is not claim:
                    raise ValueError(f"the id {claim.id!r} appears twice")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, entry {number} ({entry.get('id')}): {error}") from error
    return list(claims.values())


def _claims(entry: dict, root) -> Iterator[Claim]:
    if set(NEEDED) - set(entry) or set(entry) - {*NEEDED, *OPTIONAL} or not all(entry.values()):
        expected = f"{sorted(NEEDED)}, some of {sorted(OPTIONAL)}, none empty, no result"
        raise ValueError(f"has {sorted(entry)}; expected {expected}")
    claim = Claim(**{name: value for name, value in entry.items() if name not in ("with", "table")})
    test, evidence = claim.test, [claim.evidence] if isinstance(claim.evidence, str) else claim.evidence
    if bool(test) + bool(evidence) != 1 and (test or not claim.why) or bool(evidence) != (claim.status in STATUSES[:3]):
        raise ValueError("expected a test, or evidence with a status, or why it was not attempted")
    if test not in (None, *CHECKS) or (test == "cell") != ("table" in entry):
        raise ValueError(f"unknown test {test!r}; expected one of {sorted(CHECKS)}, cell with a table and no other")
    settings = entry.get("with", {})
    for row in read_paper(entry["table"], root).to_dict("records") if test == "cell" else []:
        for metric in [name for name in PRINTED if name in row]:
            given = {name: value for name, value in row.items() if name not in PRINTED}
            given |= {"table": entry["table"], "metric": metric, "printed": row[metric]}
            words = [row["manipulation"], row["quality"], row["model"], PRINTED[metric]]
            statement = claim.statement.format(**row | {"metric": PRINTED[metric]})
            yield claim._replace(id="/".join([claim.id, *words]), statement=statement, settings=given)
    metrics = settings.get("metric") if isinstance(settings.get("metric"), list) else [settings.get("metric")]
    for number, metric in enumerate(metrics if test != "cell" else []):
        new = claim._replace(settings=settings | {"metric": metric} if metric else settings, evidence=evidence)
        about = {"id": f"{new.id}-in-{metric}", "statement": f"{new.statement} (By {str(metric).upper()}.)"}
        yield new._replace(**about) if number else new


def evaluate(claims: list[Claim], rows: pd.DataFrame, *, profile="reader-cpu", detector="resnet18_narrow", recipe="mini",
             look: pd.DataFrame | None = None, protocol: Callable | None = None, root=None) -> pd.DataFrame:  # fmt: skip
    """Test every claim on the rows of a profile and recipe: for each the fields of ``Claim`` and of ``Finding``.

    rows, look: of ``read_results``, of trainings and of data/results/look.csv. detector: ours in the place of ResNet-50.
    protocol: ``findings.finding``, for rows that it has.
    """
    look = rows.iloc[:0] if look is None else look
    rows, look = (each[(each["profile"] == profile) & (each["recipe"] == recipe)] for each in (rows, look))
    bench, lines = Bench(rows, look, detector, profile, root, protocol), []
    for claim in claims:
        found = CHECKS[claim.test](bench, **claim.settings) if claim.test else Finding(claim.status or "not attempted")
        why = "; ".join(filter(None, [found.why, claim.why]))
        lines.append(claim._asdict() | found._replace(why=why)._asdict())
    return pd.DataFrame(lines).drop(columns="settings")


class Bench:
    """Rows of trainings and of where networks look, under the paper's names."""

    def __init__(self, rows, look, detector="resnet50", profile="tables", root=None, protocol=None):
        self.rows, self.detector, self.profile, self.root, self.protocol = rows, detector, profile, root, protocol
        self.look = look.reindex(columns=dict.fromkeys([*look, "measure", "condition", "stage", "score", "value"]))
        self.measured = cache(self._measured)

    def name(self, detector: str) -> str:
        """Our detector for one of the paper's: the same, or its narrow form where only that has rows."""
        known, narrow = set(self.rows["detector"]), f"{detector}_narrow"
        ours = narrow if narrow in known and detector not in known else detector
        return self.detector if detector == "resnet50" else ours

    def _measured(self, metric: str, wanted: Setting, quality: str) -> pd.Series:
        """``scores_of`` one setting, which may name a quality of its own; indexed as if it were ``quality``."""
        rows, own, column = self.rows, wanted.quality or quality, OURS.get(metric)
        if wanted.condition:
            rows = self.look[(self.look["measure"] == metric) & (self.look["condition"] == wanted.condition)]
            # Maps are of several stages and scores; what a network answers is of none.
            rows = rows[(rows["stage"] == rows["stage"].max()) & rows["score"].fillna("margin").eq("margin")]
            rows, column = rows.assign(accuracy=rows["value"]), "accuracy"
        chosen = {"detector": self.name(wanted.detector), "distiller": wanted.distiller, "quality": own}
        found = scores_of(rows, column, settings=Settings(wanted.settings), **chosen)
        return found.dropna().rename({own: quality}, level="quality")

    def gain(self, metric: str, manipulations: Sequence[str], quality: str, a: Setting, others: Sequence[Setting]):
        """Interval over the seeds of a setting minus the best of others, in the mean of manipulations, or what is missing."""
        if found := self.by_protocol(metric, manipulations, quality, a, *others):
            return found
        values = [self.measured(metric, each, quality) for each in (a, *others)]
        for name, (each, scores) in product(manipulations, zip((a, *others), values, strict=True)):
            if (name, quality) not in scores.droplevel("seed").index:
                return name, quality, each
        sides = [[each.xs(name, level="manipulation", drop_level=False) for each in values] for name in manipulations]
        differences = [paired_by_seed(one, max(rest, key=pd.Series.mean)) for one, *rest in sides]
        found = over_seeds(mean_over_manipulations(pd.concat(differences)), "quality").get(quality)
        found = OfOthers(*found) if found and any(each.condition != a.condition for each in others) else found
        return found if all(map(len, differences)) else None

    def by_protocol(self, metric, manipulations, quality, *settings: Setting) -> SeedInterval | None:
        """By the rows of the protocol, where they have it: of one setting alone, or minus the best of others."""
        plain = all(self.name(each.detector) == "resnet18_narrow" for each in settings)
        plain &= all(each.condition is None for each in settings) and metric in ("auc", "accuracy")
        plain &= all(each.quality is None or (each.quality, each.distiller) == ("raw", "none") for each in settings)
        varied, single = any(each.settings != "{}" for each in settings), len(manipulations) == 1
        if not self.protocol or not plain or not (single or len(manipulations) == len(FIVE)):
            return None
        if varied and (list(manipulations), quality) != (["NeuralTextures"], "c40"):
            return None
        place = f": {manipulations[0]}" * (single and not varied) + f", {metric}" * (metric != "auc")
        words = ["c23"] * (quality == "c23") + ["ablation"] * varied
        first, *rest = ("raw" if each.quality else arm(each.distiller, each.settings, *words) for each in settings)
        try:
            best = max(rest, key=lambda arm: self.protocol(arm + place).mean, default="")
            found = self.protocol(first + f" - {best}" * bool(best) + place)
        except ValueError:  # no seed has all
            return None
        kind = OfOne if single and not varied else SeedInterval
        return None if isnan(found.low) else kind(found.mean, nan, found.low, found.high, found.seeds)

    def printed(self, *place) -> float:
        """The same difference in the paper's tables; NaN where they do not have it."""
        return _printed(self.root, *(tuple(part) if isinstance(part, list) else part for part in place))

    def judged(self, found, printed: float, above=0.0, below=inf, **_) -> Finding:
        """Of one place, by the interval of ours, or by the command that gives what is missing."""
        if isinstance(found, SeedInterval):
            status = STATUSES[("inside", "outside", "not known").index(lies(found, above, below))]
            level, why = 99 if isinstance(found, OfOne) else 95, ""
            if isinstance(found, OfOthers):
                status, why = "undecided", "its two sides are of different people, whom the interval does not cover"
            return Finding(status, why, printed, found.mean, found.low, found.high, found.seeds, self.profile, level)
        if not found:
            return Finding("not attempted", "no seed has all")
        manipulation, quality, wanted = found
        place = "look" if wanted.condition else "train", manipulation, wanted.quality or quality
        keys = [(*place, name, *wanted[1:3]) for name in (self.name(wanted.detector), wanted.detector)]
        commands = map(grids(self.profile, self.root).get, keys)
        return Finding("not attempted", next(filter(None, commands), "no grid has it"))


def arm(distiller: str, settings: str | dict, *words: str) -> str:
    """A student from noise, as ``findings`` names it."""
    given = Settings(settings).items()
    texts = [f"{name}={v if isinstance(v, str) else json.dumps(v, separators=(',', ':'))}" for name, v in given]
    return " ".join([f"{distiller}@noise", *words, *texts])


@cache
def paper_bench(root) -> Bench:
    """The paper's tables as if they were rows of one seed."""
    measures, names = ["accuracy", "recall_at_1"], ["manipulation", "quality", *Setting._fields[:3]]
    rows = (pd.concat(map(read_paper, (1, 2, 3), [root] * 3)).groupby(names)[measures].last() / 100).reset_index()
    rows = rows.assign(recall_at_1_other=rows["recall_at_1"], auc=nan, changes="{}", start="noise", seed=0)
    return Bench(rows, rows.iloc[:0])


@cache
def _printed(root, *place) -> float:
    found = paper_bench(root).gain(*place)
    return round(found.mean, 6) if isinstance(found, SeedInterval) else nan


@cache
def grids(profile: str, root) -> dict[tuple, str]:
    """Commands by notebook and what it is run on; those of the profile and of the paper's tables first."""
    found, order = {}, [profile, "ablation", "reader", "paper"]
    files = [(path.stem, *read_grid(path)) for path in (project_root(root) / "book/experiments/grids").glob("*.yaml")]
    files = [file for file in files if file[1]["profile"] in order]
    for stem, about, runs in sorted(files, key=lambda f: (order.index(f[1]["profile"]), "table" not in f[0], f[0])):
        # A network that was looked at before this was measured has rows, but of other code.
        text = f"`addlib sweep {stem}" + " --stale" * (about["notebook"] == "look") + "`"
        text += f" (profile {about['profile']})" * (about["profile"] not in (profile, "ablation"))
        for run in runs:
            if not run.changes and run.start == "noise":
                key = (run.manipulation, run.quality, run.detector, run.distiller, str(run.settings))
                found.setdefault((about["notebook"], *key), text)
    return found


def places(*, of, over, manipulations=FIVE, qualities=("c23", "c40"), detectors=("resnet50",), metric="accuracy", condition=None,
           mean=False, best=False, above=0.0, below=inf, share=1.0):  # fmt: skip
    """Every comparison that a claim speaks of: its name, and the arguments of ``Bench.gain``.

    of, over: see :class:`Setting`, or lists of such, each with each, or with the ``best`` of the second. metric: in ``OURS``, or
    with a condition a measure of look.csv. above, below, share: range allowed, in points, and share of the comparisons needed.
    """
    first, second = ([side] if isinstance(side, str | dict) else side for side in (of, over))
    for quality, detector, one in product(qualities, detectors, first):
        a, *others = (Setting.of(each, detector=detector, condition=condition) for each in (one, *second))
        for rest in [others] if best else [[each] for each in others]:
            for names in [manipulations] if mean else [[name] for name in manipulations]:
                where = f"{'the best other' if best else rest[0]} on {'the mean' if mean else names[0]} at {quality}"
                yield f"{a} over {where}", (metric, names, quality, a, rest)


def cell(bench, *, table, model, metric, manipulation, quality, detector, distiller, printed, settings) -> Finding:
    """A cell of a table: on the paper's data its value, on others the sign of its difference to the baseline of its rows."""
    wanted, base = Setting(detector, distiller, settings), Setting(detector if table == 3 else "resnet50")
    own = bench.by_protocol(metric, [manipulation], quality, wanted)
    own = own or over_seeds(bench.measured(metric, wanted, quality)).get((manipulation, quality))
    known, paper = {"cell": printed, "measured": own.mean if own else nan, "profile": bench.profile}, printed
    found, allowed = own or (manipulation, quality, wanted), (printed - TOLERANCE, printed + TOLERANCE)
    if bench.profile != "paper":
        if wanted == base:
            why = "a baseline on other data: the zero from which the rest of its rows is counted"
            return Finding("not attempted", why, **known)
        place = metric, [manipulation], quality, wanted, [base]
        found, paper = bench.gain(*place), bench.printed(*place)
        allowed = (0, inf) if paper > 0 else (-inf, 0) if paper else (nan, nan)
    return _summed({"": bench.judged(found, paper, *allowed)})._replace(paper=paper, **known)


def gains(bench: Bench, **claimed) -> Finding:
    """Difference of two settings on our rows, seed by seed; see :func:`places` for what may be asked."""
    found = {name: bench.judged(bench.gain(*at), bench.printed(*at), **claimed) for name, at in places(**claimed)}
    return _summed(found, **claimed)


def gains_in_the_tables(bench: Bench, *, largest=False, **claimed) -> Finding:
    """The same difference in the paper's tables, a number without an interval. largest: the claim is about the largest only."""
    found = {name: _exact(bench.printed(*place), **claimed) for name, place in places(**claimed)}
    return _summed(dict([max(found.items(), key=lambda item: item[1].paper)]) if largest else found, **claimed)


def hardest_in_the_table(bench: Bench, *, manipulation) -> Finding:
    """For each model of table 1: how far its accuracy on one manipulation lies below that on any other."""
    wide = read_paper(1, bench.root).pivot(index=["model", "quality"], columns="manipulation", values="accuracy")
    below = wide.drop(columns=manipulation).min(axis=1) - wide[manipulation]
    return _summed({" at ".join(name): _exact(value) for name, value in below.items()})


def recall_and_accuracy(bench: Bench, *, share=1.0) -> Finding:
    """Rank correlation of Recall@1 and accuracy over the models, for each manipulation and quality of table 1."""
    cells = read_paper(1, bench.root).groupby(["manipulation", "quality"])[["accuracy", "recall_at_1"]]
    return _summed({" at ".join(name): _exact(part.rank().corr().iloc[0, 1]) for name, part in cells}, share=share)


CHECKS = {each.__name__: each for each in (cell, gains, gains_in_the_tables, hardest_in_the_table, recall_and_accuracy)}


def combined(statuses: Sequence[str], share: float = 1.0) -> str:
    """Status of a claim about several places, of which it needs the given share."""
    needed = ceil(share * len(statuses) - 1e-9)
    if statuses.count("reproduced") >= needed:
        return "reproduced"
    if statuses.count("differs") > len(statuses) - needed:
        return "differs"
    return "not attempted" if set(statuses) == {"not attempted"} else "undecided"


def _exact(value: float, above=0.0, below=inf, **_) -> Finding:
    """A number of the tables, which has no interval: inside or not."""
    value = round(float(value), 6)
    return Finding("reproduced" if above < value < below else "differs", "", value, profile="tables")


def _summed(findings: dict[str, Finding], above=0.0, below=inf, share=1.0, **_) -> Finding:
    """One finding of those at several places, with the numbers of the place that speaks most against the claim."""
    statuses, words = [found.status for found in findings.values()], []
    if len(findings) > 1:
        counts = [f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses)]
        words.append(f"{len(findings)} comparisons: {', '.join(counts)}")
    missing = dict.fromkeys(found.why for found in findings.values() if found.status == "not attempted")
    words += ["missing: " + ", ".join(missing)] if missing else []
    tried = {name: found for name, found in findings.items() if found.status != "not attempted"}

    def favour(name: str) -> tuple:
        # Decided against, then known with an interval, then how far inside the range the number itself is, not its bounds.
        found, value = tried[name], tried[name].ours if tried[name].seeds else tried[name].paper
        return found.status != "differs", found.seeds == 1, min(value - above, below - value)

    shown = min(tried, key=favour, default="")
    found = tried.get(shown, Finding())
    words += [f"shown: {shown}"] if shown and len(findings) > 1 else []
    words += ["one seed has no interval"] if found.seeds == 1 else []
    words += [found.why] if found.why and found.status != "not attempted" else []
    return found._replace(status=combined(statuses, share), why="; ".join(words))
