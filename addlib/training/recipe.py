"""What a training is made of, and the recipes that have a name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import inf, isfinite
from numbers import Real

RANGES = {
    "epochs": (1, inf), "batch_size": (2, inf), "learning_rate": (1e-30, inf), "warm_up": (0, 1), "eps": (1e-30, inf),
    "weight_decay": (0, inf), "validations": (1, inf), "patience": (1, inf), "classifier_epochs": (0, inf),
    "frequency_from": (0, inf), "flip": (0, 1), "shift": (0, inf),
}  # fmt: skip
WHOLE = {"epochs", "batch_size", "validations", "patience", "classifier_epochs", "frequency_from", "shift"}


@dataclass(frozen=True)
class Recipe:
    """Everything that the result of a training depends on besides data, networks, losses and seed.

    Raises ValueError for a setting that is out of range; the message names it.
    """

    name: str
    epochs: int = 32  #: passes over the training pairs at most
    batch_size: int = 144  #: pairs in a step, over all devices together
    learning_rate: float = 2e-4  #: peak of the one-cycle schedule
    warm_up: float = 0.3  #: share of the steps in which it rises (pct_start of OneCycleLR)
    cycle_momentum: bool = True  #: the schedule moves the first beta too, 0.95 to 0.85 and back, as is PyTorch's default
    optimizer: str = "adam"  #: or "adamw"; betas, eps and weight_decay are its own
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    validations: int = 10  #: in each epoch; the weights of the best validation accuracy are kept
    patience: int | None = 10  #: validations without gain in accuracy after which training stops, never if None
    classifier_epochs: int = 0  #: first epochs in which only the last layer learns (and running statistics are kept)
    frequency_from: int = 0  #: first epoch, counted from 0, in which the frequency attention loss counts
    flip: float = 0.5  #: probability that a pair is mirrored
    shift: int = 0  #: pixels by which windows move at random, and are smaller than crops; validation takes the centre

    def __post_init__(self):
        betas = self.betas if isinstance(self.betas, list | tuple) else ()  # YAML and JSON give a list
        if len(betas) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {self.betas!r}; expected two numbers from 0 to below 1")
        object.__setattr__(self, "betas", tuple(betas))
        for name, (low, high) in RANGES.items():
            value, whole = getattr(self, name), name in WHOLE
            fits = isinstance(value, Real) and low <= value <= high and isfinite(value) and (not whole or value == int(value))
            if not fits and (value is not None or name != "patience"):
                text = "; YAML takes 1e-3 for text: write 1.0e-3" * isinstance(value, str)
                raise ValueError(f"{name} is {value!r}; expected a {'whole ' * whole}number from {low} to {high}{text}")
            if value is not None:
                object.__setattr__(self, name, int(value) if whole else float(value))
        if not isinstance(self.cycle_momentum, bool):
            raise ValueError(f"cycle_momentum is {self.cycle_momentum!r}; expected true or false")
        if self.optimizer not in ("adam", "adamw"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}; there are 'adam' and 'adamw'")

    @classmethod
    def named(cls, recipe: str | Recipe, **changes) -> Recipe:
        """A recipe by its name in ``RECIPES``, or as it is, some settings changed; ValueError for what does not exist."""
        if not isinstance(recipe, Recipe) and recipe not in list(RECIPES):
            raise ValueError(f"unknown recipe {recipe!r}; there are {sorted(RECIPES)}")
        known = [field.name for field in fields(cls)]
        if unknown := sorted(changes.keys() - known):
            raise ValueError(f"a recipe has no {unknown}; it has {known}")
        return replace(RECIPES.get(recipe, recipe), **changes)

    @property
    def changes(self) -> dict:
        """In what it differs from the recipe of its name; everything, where no recipe in ``RECIPES`` has it."""
        named = asdict(RECIPES[self.name]) if self.name in RECIPES else {"name": self.name}
        return {name: value for name, value in asdict(self).items() if name not in named or named[name] != value}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # Section "Experiments" of Le and Woo (AAAI 2022). It names no number of epochs and no share of rising steps:
        # 32 is the published code's, 0.3 the default of OneCycleLR. The first beta stays where the paper puts it.
        Recipe("paper", cycle_momentum=False),
        # The same as the published code runs it, as far as its settings are known; the first beta is left to PyTorch.
        Recipe("published", warm_up=0.05, classifier_epochs=3, frequency_from=3),
        # A small network on MiniForensics, on a CPU: 8 frames of 144 real and 144 manipulated videos. Chosen for the
        # difficulty table of the data card, with no regard to distillation.
        Recipe(
            "mini", epochs=8, batch_size=32, learning_rate=2e-3, warm_up=0.2, optimizer="adamw", weight_decay=5e-2,
            validations=1, patience=None, shift=8,
        ),
    )
}  # fmt: skip
