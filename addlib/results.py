"""Rows of results: what was trained, how well it did, what the paper reports, and comparisons seed by seed.

Needs pandas alone, so that a page that only reads rows starts quickly.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from addlib.files import atomic_write, project_root
from addlib.metrics import SeedInterval, seed_interval
from addlib.provenance import digest


class Settings(dict):
    """A dict of JSON values that can be hashed, and must not be changed. ``str`` of it is its JSON, sorted by name."""

    def __init__(self, values: Mapping | str | None = None):
        given = json.loads(values) if isinstance(values, str) else dict(values or {})
        super().__init__(_plain(json.loads(json.dumps(given))))

    def __str__(self) -> str:
        return json.dumps(self, sort_keys=True)

    def __hash__(self) -> int:
        return hash(str(self))


def _plain(value):
    """The same JSON value with 1 in the place of 1.0, so that both name the same training."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Run:
    """One training by its settings.

    Args:
        manipulation, quality: of the crops, such as "NeuralTextures" and "c40".
        detector: backbone of student and teacher.
        distiller: "none", or the loss between student and teacher.
        recipe: name of the recipe.
        changes: what differs from that recipe.
        seed: of initial weights, order, mirroring, views and pairs; the teacher has the same.
        start: "noise", "teacher" (the teacher's weights), "imagenet", or a path of weights.
        settings: what differs from the distiller's own defaults. A default must not be named: it would be another key.

    ``changes`` and ``settings`` may be given as dicts or as JSON.
    """

    manipulation: str
    quality: str
    detector: str = "resnet50"
    distiller: str = "none"
    recipe: str = "paper"
    changes: Settings = Settings()
    seed: int = 0
    start: str = "noise"
    settings: Settings = Settings()

    def __post_init__(self):
        object.__setattr__(self, "changes", Settings(self.changes))
        object.__setattr__(self, "settings", Settings(self.settings))
        object.__setattr__(self, "seed", int(self.seed))
        if self.distiller == "none" and self.settings:
            raise ValueError(f"settings are {self.settings} without a distiller; name one, or leave them out")

    @classmethod
    def of(cls, row: Mapping) -> Run:
        """The training behind a row of results."""
        return cls(**{name: row[name] for name in COLUMNS})

    @property
    def teacher(self) -> Run | None:
        """The training of the teacher: the same detector on raw. None if nothing is taken from a teacher."""
        if self.distiller == "none" and self.start != "teacher":
            return None
        start = "noise" if self.start == "teacher" else self.start
        return replace(self, quality="raw", distiller="none", start=start, settings=Settings())

    @property
    def parameters(self) -> dict:
        """As a notebook of book/experiments takes them."""
        return {name: dict(value) if isinstance(value, Settings) else value for name, value in vars(self).items()}

    @property
    def columns(self) -> dict:
        """As columns of a row of results; changes and settings are JSON."""
        return {name: str(value) if isinstance(value, Settings) else value for name, value in vars(self).items()}

    def key(self, data: str) -> str:
        """Twelve hexadecimal digits of the settings, of the teacher's, and of the hash of the crops."""
        return digest([self.columns, data, self.teacher and self.teacher.key(data)])

    def __str__(self) -> str:
        words = [self.manipulation, self.quality, self.detector, self.distiller]
        words += [f"{name}={value}" for name, value in sorted((self.settings | self.changes).items())]
        words += [f"from {self.start}"] * (self.start != "noise")
        return " ".join([*words, f"seed {self.seed}"])


COLUMNS = tuple(field.name for field in fields(Run))
