"""One line for each claim: what the paper says, what we found, and what that makes of it."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from .bench import Bench
from .checks import CHECKS
from .ledger import Claim
from .rules import Finding

COLUMNS = (
    "id", "source", "statement", "paper", "ours", "low", "high", "seeds", "profile", "status", "why", "chapter", "kind", "test",
    "evidence", "cell", "measured",
)  # fmt: skip


def evaluate(
    claims: list[Claim],
    rows: pd.DataFrame,
    *,
    profile: str = "reader-cpu",
    detector: str = "resnet18_narrow",
    recipe: str = "mini",
    look: pd.DataFrame | None = None,
    root=None,
) -> pd.DataFrame:
    """Test every claim on the rows of one profile, by the rules that ``addlib.claims`` states.

    claims: of ``read_claims``. rows: of ``addlib.experiments.read_results``. profile, recipe: which rows count. detector: ours in the
    place of the paper's ResNet-50. look: rows of data/results/look.csv; without them, what they decide is not attempted.
    root: of the project, for tables and grids.
    Returns a row for each claim, columns ``COLUMNS``: paper, ours, low and high in points, of what is compared; cell and measured in
    percent, for a cell of a table; profile is None where no training was looked at, "tables" where the paper's tables were.
    """
    bench = Bench(rows, profile, detector, recipe, look, root)
    lines = []
    for claim in claims:
        found = (
            CHECKS[claim.test](bench, **claim.settings)
            if claim.test
            else Finding(claim.status or "not attempted", claim.why)
        )
        lines.append(asdict(claim) | found._asdict())
    return pd.DataFrame(lines, columns=list(COLUMNS))
