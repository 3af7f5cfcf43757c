"""How good a detector is, and how sure one can be of it. Labels are 1 for fake and 0 for real. NumPy alone is imported."""

# ruff: noqa: I001
from .intervals import (
    VERDICTS, Interval, SeedInterval, bootstrap_interval, lies, paired_difference, pseudo_values,
    seed_interval, two_way_interval, verdict,
)  # fmt: skip
from .recall import nearest_neighbours, recall_at_1
from .scoring import Scores, Videos, accuracy, auc, by_video, ece, eer, identities, mean, scores

__all__ = [
    "VERDICTS", "Interval", "Scores", "SeedInterval", "Videos", "accuracy", "auc", "bootstrap_interval",
    "by_video", "ece", "eer", "identities", "lies", "mean", "nearest_neighbours", "paired_difference",
    "pseudo_values", "recall_at_1", "scores", "seed_interval", "two_way_interval", "verdict",
]  # fmt: skip
