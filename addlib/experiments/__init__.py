"""A grid of trainings, executed by papermill over Dask, into a table of results.

``cells``  one training by its settings, and a grid of them from YAML
``table``  rows of results: one for each cell, never two
``sweep``  runs those cells of a grid that have no row
"""

from .cells import Cell, read_grid
from .sweep import sweep
from .table import read_results, record, results_file

__all__ = ["Cell", "read_grid", "read_results", "record", "results_file", "sweep"]
