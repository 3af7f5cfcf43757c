"""A grid of trainings, executed by papermill over Dask, into a table of results.

* ``cells``: one training by its settings, and a grid of them from YAML
* ``table``: rows of results: one for each cell, never two
* ``sweep``: runs those cells of a grid that have no row
* ``kept``: the network behind a row; imports Lightning, so import it when needed
* ``comparing``: one metric of one setting by seed, intervals, differences seed by seed
* ``paper``: the paper's own tables in the same names
"""

from .cells import SETTINGS, Cell, read_grid
from .comparing import METRICS, less, over_seeds, scores_of, together, written
from .paper import read_paper
from .sweep import sweep
from .table import read_results, record, record_measurements, results_file

__all__ = [
    "METRICS",
    "SETTINGS",
    "Cell",
    "less",
    "over_seeds",
    "read_grid",
    "read_paper",
    "read_results",
    "record",
    "record_measurements",
    "results_file",
    "scores_of",
    "sweep",
    "together",
    "written",
]
