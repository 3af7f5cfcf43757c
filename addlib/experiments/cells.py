"""One training by its settings, and a grid of them from YAML."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

FR = {"alpha": 1.0, "gamma_fr": 1.0, "detach_weight": True}
MV = {
    "beta": 16.0, "views": 12, "bins": None, "gamma_mv": 100.0, "eta": 50.0, "margin": 0.012, "coordinates": "index",
    "variant": "paper",
}  # fmt: skip
# The settings that each distiller has, with the defaults of addlib.training.
SETTINGS = {
    "none": {},
    "fitnet": {"weight": 1.0, "variant": "published"},
    "at": {"weight": 1000.0},
    "nl": {"weight": 1.0},
    "kd": {"weight": 1.0, "temperature": 4.0},
    "fr": FR,
    "mv": MV,
    "add": FR | MV,
}


@dataclass(frozen=True)
class Cell:
    """One training. What a distiller does not have is None; what it has and is not given gets its default.

    manipulation, quality: of the crops. detector: backbone of student and teacher. distiller: see
    ``addlib.training.DISTILLERS``. recipe: name; changes: settings of it that differ. seed: of the training; the teacher has
    the same. The others are settings of the distiller.

    Raises:
        ValueError: a setting that the distiller does not have.
    """

    manipulation: str
    quality: str
    detector: str = "resnet50"
    distiller: str = "none"
    recipe: str = "paper"
    changes: str = "{}"
    seed: int = 0
    alpha: float | None = None
    gamma_fr: float | None = None
    detach_weight: bool | None = None
    beta: float | None = None
    views: int | None = None
    bins: int | None = None
    gamma_mv: float | None = None
    eta: float | None = None
    margin: float | None = None
    coordinates: str | None = None
    variant: str | None = None
    weight: float | None = None
    temperature: float | None = None

    def __post_init__(self):
        if self.distiller not in SETTINGS:
            raise ValueError(f"unknown distiller {self.distiller!r}; there are {sorted(SETTINGS)}")
        mine = SETTINGS[self.distiller]
        for name in SETTING_NAMES:
            value = getattr(self, name)
            if name not in mine and value is not None:
                raise ValueError(f"distiller {self.distiller!r} has no {name}; it has {sorted(mine)}")
            if name in mine:
                default = mine[name]
                value = default if value is None else type(default)(value) if default is not None else value
                object.__setattr__(self, name, value)
        if self.bins is not None:  # its default says nothing of its kind, and a table that is read again holds 4.0
            object.__setattr__(self, "bins", int(self.bins))
        if not isinstance(self.changes, str):
            object.__setattr__(self, "changes", json.dumps(self.changes, sort_keys=True))

    @property
    def settings(self) -> dict:
        """Settings of the distiller, as ``create_distiller`` takes them."""
        return {name: getattr(self, name) for name in SETTINGS[self.distiller] if getattr(self, name) is not None}

    @property
    def parameters(self) -> dict:
        """What differs from the defaults of a Cell, with the changes of the recipe as a dict: parameters of a notebook."""
        return asdict(self) | {"changes": json.loads(self.changes)}

    def key(self, data: str) -> str:
        """Twelve hexadecimal digits of the cell and the hash of the data it is trained on."""
        text = json.dumps([asdict(self), data], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __str__(self):
        name = " ".join(f"{value}" for value in (self.manipulation, self.quality, self.detector, self.distiller))
        defaults = SETTINGS[self.distiller]
        special = [f"{name}={value}" for name, value in self.settings.items() if value != defaults[name]]
        return " ".join([name, *special, f"seed {self.seed}"])


SETTING_NAMES = tuple(field.name for field in fields(Cell))[7:]


def read_grid(path) -> tuple[dict, list[Cell]]:
    """A grid file: what is run on which crops, and its cells, each once, seed after seed, teachers first.

    The YAML holds ``profile``, ``crops`` (relative to book/), ``common`` (settings of every cell) and ``cells``, a list in
    which every entry stands for the product of its lists. It may name the ``notebook`` of book/experiments that a cell is
    given to, "train" unless it does.
    Raises ValueError, naming file and entry, for what does not fit.
    """
    path = Path(path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    wanted = {"profile", "crops", "common", "cells"}
    if not isinstance(content, dict) or set(content) - {"notebook"} != wanted:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {found}; a grid has {sorted(wanted)}, and may have a notebook")
    content.setdefault("notebook", "train")
    cells = {}
    for number, entry in enumerate(content["cells"], 1):
        merged = content["common"] | entry
        choices = [value if isinstance(value, list) else [value] for value in merged.values()]
        for values in itertools.product(*choices):
            try:
                cells[Cell(**dict(zip(merged, values, strict=True)))] = None
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, entry {number} of cells: {error}") from error
    # Others wait for a teacher, so teachers come first, and neighbours in the list have different ones.
    order = sorted(cells, key=lambda cell: (cell.seed, cell.quality != "raw" or cell.distiller != "none"))
    return {name: content[name] for name in ("profile", "crops", "notebook")}, order
