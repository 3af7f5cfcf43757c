"""How good a detector is, and how sure one can be of it: scores, Recall@1, and intervals over identities and seeds.

* ``scoring``: accuracy, AUC, equal error rate and calibration error of the probabilities of a test set
* ``videos``: frames to videos, and videos to groups of identities
* ``recall``: nearest neighbours among embeddings, and Recall@1
* ``weighted``: the metrics that a bootstrap evaluates fast, many draws at once
* ``intervals``: bootstrap over identities, paired comparison of two models, interval over seeds

Labels are 1 for fake and 0 for real; a probability is that of fake. torchmetrics is imported when ``scores`` is called.
"""

from addlib.metrics.intervals import (
    Difference,
    Interval,
    SeedInterval,
    bootstrap_interval,
    paired_difference,
    seed_interval,
)
from addlib.metrics.recall import nearest_neighbours, recall_at_1
from addlib.metrics.scoring import Scores, scores
from addlib.metrics.videos import Videos, by_video, identities
from addlib.metrics.weighted import accuracy, auc, eer, mean

__all__ = [
    "Difference",
    "Interval",
    "Scores",
    "SeedInterval",
    "Videos",
    "accuracy",
    "auc",
    "bootstrap_interval",
    "by_video",
    "eer",
    "identities",
    "mean",
    "nearest_neighbours",
    "paired_difference",
    "recall_at_1",
    "scores",
    "seed_interval",
]
