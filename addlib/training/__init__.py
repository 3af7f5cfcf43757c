"""Training of detectors and of students under a frozen teacher; Lightning does the engineering.

* ``recipe``: what a training is made of: optimiser, schedule, batches, selection
* ``distillers``: the losses between student and teacher by name
* ``task``: the Lightning module, imported when a training starts
* ``engine``: hardware, memory, and Lightning's Trainer
* ``fit``: ``fit_detector`` and ``fit_student``: a trained detector and its row of results, kept in a folder
* ``prediction``: predictions and metrics on a split
"""

from .distillers import DISTILLERS, Distiller, create_distiller, distiller_defaults, register_distiller
from .fit import fit_detector, fit_student
from .prediction import Predictions, autocast, centre, evaluate, predict
from .recipe import RECIPES, Recipe
from .store import Trained

__all__ = [
    "DISTILLERS", "RECIPES", "Distiller", "Predictions", "Recipe", "Trained", "autocast", "centre", "create_distiller",
    "distiller_defaults", "evaluate", "fit_detector", "fit_student", "predict", "register_distiller",
]  # fmt: skip
