"""Training of detectors and of students under a frozen teacher; Lightning does the engineering.

* ``recipe``: what a training is made of: optimiser, schedule, batches, selection
* ``distillers``: the losses between student and teacher by name: none, fitnet, at, nl, kd, fr, mv, add
* ``loading``: batches of pairs for an epoch, the same on every machine
* ``task``: the Lightning module
* ``fitting``: ``fit_detector`` and ``fit_student``: a trained detector and its row of results
* ``evaluation``: predictions and metrics on a split
* ``runs``: trainings kept on disk under a key of all that they depend on
"""

from .distillers import DISTILLERS, create_distiller
from .evaluation import evaluate, predict
from .fitting import fit_detector, fit_student
from .recipe import RECIPES, Recipe
from .runs import Trained

__all__ = [
    "DISTILLERS",
    "RECIPES",
    "Recipe",
    "Trained",
    "create_distiller",
    "evaluate",
    "fit_detector",
    "fit_student",
    "predict",
]
