"""The ledger of claims: data/claims.yml, read and checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from addlib.experiments import read_paper

from .bench import METRICS
from .checks import CHECKS, fit

KINDS = ("number", "statement", "mathematics", "proposal")
TYPED = ("reproduced", "differs")
EVIDENCE = re.compile(r"tests/[\w/]+\.py::test_\w+|book/\d\d-[a-z0-9-]+\.ipynb#[\w-]+")
CHAPTER = re.compile(r"\d\d-[a-z0-9-]+")
NEEDED = {"id", "source", "kind", "chapter", "statement"}
KNOWN = NEEDED | {"table", "test", "with", "status", "evidence", "why"}
NAMES = {"accuracy": "accuracy", "recall_at_1": "Recall@1"}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    id, source: its name here and its place in the paper. kind: in ``KINDS``. statement: in our words. chapter: where it is treated.
    Then one of three: test and settings, for what rows or tables decide; status, evidence and perhaps why, for what a proof or a
    measurement shows, which is a test function (``tests/….py::test_…``) or a cell that asserts it (``book/….ipynb#cell``), or several;
    why alone, for what was not attempted.
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


def read_claims(path, root=None) -> list[Claim]:
    """The claims of a ledger, a YAML list of entries; an entry with ``table`` stands for all cells of that table of the paper.

    root: of the project, for the paper's tables; by default that round the working directory.
    Raises ValueError, naming file and entry, for an entry that does not fit.
    """
    path = Path(path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} holds {type(content).__name__}, expected a list of claims")
    claims = {}
    for number, entry in enumerate(content, 1):
        name = entry.get("id") if isinstance(entry, dict) else None
        where = f"{path}, entry {number}" + (f" ({name})" if name else "")
        for claim in _expanded(where, entry, root):
            if claim.id in claims:
                raise ValueError(f"{where}: the id {claim.id!r} appears twice")
            claims[claim.id] = claim
    return list(claims.values())


def _expanded(where: str, entry, root) -> list[Claim]:
    _check(where, entry)
    about = {name: entry[name] for name in NEEDED}
    if "table" in entry:
        return [_cell(about, entry["table"], *cell) for cell in _cells(where, entry["table"], root)]
    rest = {name: entry[name] for name in ("test", "status") if name in entry}
    evidence = tuple(_listed(entry.get("evidence", [])))
    return [Claim(**about, **rest, settings=entry.get("with", {}), evidence=evidence, why=entry.get("why", ""))]


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


def _check(where: str, entry) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r}, expected keys and values")
    missing, unknown = sorted(NEEDED - set(entry)), sorted(set(entry) - KNOWN)
    if missing or unknown:
        faults = [f"lacks {missing}"] * bool(missing) + [f"has unknown {unknown}"] * bool(unknown)
        raise ValueError(
            f"{where} {' and '.join(faults)}; it has {sorted(KNOWN)}, and results are computed, never typed"
        )
    empty = sorted(name for name, value in entry.items() if isinstance(value, str) and not value.strip())
    if empty:
        raise ValueError(f"{where}: {empty} are empty")
    if entry["kind"] not in KINDS:
        raise ValueError(f"{where}: unknown kind {entry['kind']!r}; there are {list(KINDS)}")
    if not CHAPTER.fullmatch(str(entry["chapter"])):
        raise ValueError(f"{where}: chapter is {entry['chapter']!r}, expected the stem of a notebook such as 01-name")
    ways = [name for name in ("test", "evidence") if name in entry]
    if len(ways) > 1 or not (ways or "why" in entry):
        raise ValueError(
            f"{where} has {ways or 'neither test, evidence nor why'}; expected a test, or evidence, or why it was not attempted"
        )
    if ("status" in entry) != ("evidence" in entry):
        raise ValueError(f"{where}: a status is typed where there is evidence for it, and only there")
    if "evidence" in entry:
        if entry["status"] not in TYPED:
            raise ValueError(f"{where}: status is {entry['status']!r}, expected one of {list(TYPED)}")
        if not all(EVIDENCE.fullmatch(str(each)) for each in _listed(entry["evidence"])) or not entry["evidence"]:
            raise ValueError(
                f"{where}: evidence is {entry['evidence']!r}, expected tests/….py::test_… or book/….ipynb#cell"
            )
    if "test" in entry:
        _check_test(where, entry)
    elif {"table", "with"} & set(entry):
        raise ValueError(f"{where}: table and with are for a test")


def _check_test(where: str, entry) -> None:
    if entry["test"] not in CHECKS:
        raise ValueError(f"{where}: unknown test {entry['test']!r}; there are {sorted(CHECKS)}")
    if ("table" in entry) != (entry["test"] == "cell"):
        raise ValueError(f"{where}: the test 'cell' is for the cells of a table, and no other test is")
    if "table" not in entry:
        try:
            fit(entry["test"], entry.get("with", {}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: with does not fit the test {entry['test']!r}: {error}") from error


def _cells(where: str, table, root):
    """(row, metric) of every number of a table of the paper."""
    try:
        rows = read_paper(table, root)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return [
        (row, metric) for row in rows.to_dict("records") for metric in METRICS if not pd.isna(row.get(metric, math.nan))
    ]


def _cell(about: dict, table: int, row: dict, metric: str) -> Claim:
    settings = {name: row[name] for name in ("manipulation", "quality", "detector", "distiller", "model")}
    settings |= {"table": table, "metric": metric, "printed": row[metric]}
    if row["distiller"] == "mv":
        settings["eta"] = row["eta"]
    words = {name: row[name] for name in ("manipulation", "quality", "model")} | {"metric": NAMES[metric]}
    name = "/".join([about["id"], *(words[key] for key in ("manipulation", "quality", "model", "metric"))])
    return Claim(
        **about | {"id": name, "statement": about["statement"].format(**words)}, test="cell", settings=settings
    )
