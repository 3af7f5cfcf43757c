"""What the paper claims, and what became of it: data/claims.yml against the rows of results.

* ``ledger``: the file, read and checked; a table of the paper is one claim for each of its cells
* ``rules``: when a claim is reproduced, differs, or is undecided
* ``bench``: the rows of one profile, the paper's numbers and the grids, under the names of the paper
* ``comparisons``: one setting against another, at several places
* ``checks``: the tests that a claim may name
* ``evaluation``: one line for each claim

The rules. A test compares a number with a claim that allows a range of it: more than 0 for "A is better than B", the printed
value give or take two points for an accuracy on the same data. The number is known as a 95 % interval over the seeds, of
differences seed by seed where two settings are compared. The claim is

* reproduced    if the whole interval lies inside the range,
* differs       if the whole interval lies outside,
* undecided     otherwise, so also with one seed, which has no interval,
* not attempted if there is no row, or nothing in the rows speaks to it; why says what is missing.

A claim about several places (five manipulations in two qualities, say) is reproduced if it is at every one, differs if it differs at
one, is not attempted if none has rows, and is undecided otherwise. "In most cases" lowers the number of places that it
needs, and raises that of the ones that it can lose, by the same share. Turning a claim into its opposite turns "reproduced" into
"differs" and the reverse, and leaves the rest.

Drawn people cannot confirm a number measured on FaceForensics++. On them a cell of the paper's tables claims a direction:
that of its difference to the baseline of its rows. The baselines themselves then claim nothing. In profile "paper" a cell claims its value.
"""

from .checks import CHECKS
from .evaluation import COLUMNS, evaluate
from .ledger import KINDS, Claim, read_claims
from .rules import STATUSES, TOLERANCE, combined, decided

__all__ = [
    "CHECKS",
    "COLUMNS",
    "KINDS",
    "STATUSES",
    "TOLERANCE",
    "Claim",
    "combined",
    "decided",
    "evaluate",
    "read_claims",
]
