"""The modules whose code decides what a training gives."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from addlib import losses
from addlib.faceforensics import drawing, pairs, resident

from . import distillers, engine, loading, precision, recipe, task


def sources(detector, *, distilled: bool) -> list:
    """Those of the training, of the parts of this detector and, if it is distilled, of the losses, in the order of their names."""
    found = {engine, loading, precision, recipe, task, drawing, pairs, resident}
    if distilled:
        names = [module.name for module in pkgutil.iter_modules(losses.__path__)]
        found |= {distillers, *(importlib.import_module(f"addlib.losses.{name}") for name in names)}
    networks = {inspect.getmodule(type(part)) for part in detector.modules()}
    found |= {module for module in networks if module.__name__.startswith("addlib.")}
    return sorted(found, key=lambda module: module.__name__)
