"""When a claim is reproduced, differs, or is undecided. See the package for the rules in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

STATUSES = ("reproduced", "differs", "undecided", "not attempted")
# Points by which an accuracy on the paper's own data may differ: about one standard error of an accuracy of 0.9 on its
# 280 test videos, each counted once.
TOLERANCE = 2.0


class Finding(NamedTuple):
    """What a test found out about one claim, or about one of the places that a claim speaks of.

    ``paper`` and ``ours`` are the number that is tested, in points, ``low`` to ``high`` the interval of ours over ``seeds``. ``cell``
    and ``measured`` are the printed value of a table's cell and ours, in percent.
    """

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


def decided(low: float, high: float, above: float, below: float) -> str:
    """Status of a claim that allows the numbers above ``above`` and below ``below``, of an interval; NaN bounds decide nothing."""
    if above < low and high < below:
        return "reproduced"
    if high < above or low > below:
        return "differs"
    return "undecided"


def combined(statuses: Sequence[str], share: float = 1.0) -> str:
    """Status of a claim about several places, of which it needs the given share."""
    needed = math.ceil(share * len(statuses) - 1e-9)
    if statuses.count("reproduced") >= needed:
        return "reproduced"
    if statuses.count("differs") > len(statuses) - needed:
        return "differs"
    return "not attempted" if set(statuses) == {"not attempted"} else "undecided"
