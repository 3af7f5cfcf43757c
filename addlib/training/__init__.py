"""Training of detectors and of students under a frozen teacher; Lightning does the engineering.

* ``recipe``: optimiser, schedule, batches, selection; ``distillers``: the losses between student and teacher by name
* ``fit``: from crops to a trained detector and its row, kept by ``store``; ``prediction``: answers and metrics on a split
* ``hardware``: devices, precision, memory; ``engine``: Lightning's module and Trainer, imported when a training starts
"""

from .distillers import DISTILLERS, Distiller, create_distiller, distiller_defaults, register_distiller
from .fit import fit_detector, fit_student
from .hardware import autocast
from .prediction import Predictions, centre, evaluate, predict
from .recipe import RECIPES, Recipe
from .store import Trained

__all__ = [
    "DISTILLERS", "RECIPES", "Distiller", "Predictions", "Recipe", "Trained", "autocast", "centre", "create_distiller",
    "distiller_defaults", "evaluate", "fit_detector", "fit_student", "predict", "register_distiller",
]  # fmt: skip
