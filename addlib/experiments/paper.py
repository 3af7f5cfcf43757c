"""The result tables of Le and Woo (AAAI 2022) in the names of this project."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

DETECTORS = {
    "Xception": "xception",
    "InceptionResNetV1": "inception_resnet_v1",
    "F3Net": "f3net",
    "ResNet50": "resnet50",
    "ResNet18": "resnet18",
    "ResNet34": "resnet34",
    "EfficientNet-B0": "efficientnet_b0",
}
DISTILLERS = {"FitNet": "fitnet", "AT": "at", "NL": "nl", "ADD": "add"}
# Rows of table 2: distiller and settings.
PARTS = {
    "ResNet50 baseline": ("none", None),
    "FR": ("fr", None),
    "MV without contrastive": ("mv", 0.0),
    "MV with contrastive": ("mv", 50.0),
    "FR+MV": ("add", 50.0),
}


def read_paper(table: int, root=None) -> pd.DataFrame:
    """Table 1, 2 or 3 of the paper, from data/paper.

    Returns columns ``manipulation, quality, detector, distiller`` as in the rows of results, ``model`` (the name of table
    and row in the paper), ``accuracy`` in percent, and ``recall_at_1`` in percent for table 1 and ``eta`` for table 2 (0
    where the contrastive term is left out).
    Raises ValueError for another number.
    """
    from addlib.book.project import locate

    if table not in (1, 2, 3):
        raise ValueError(f"the paper has no table {table!r}; it has 1, 2 and 3")
    found = pd.read_csv(Path(locate(root).root) / "data" / "paper" / f"table{table}.csv")
    found = found.rename(columns={"accuracy_percent": "accuracy", "recall_at_1_percent": "recall_at_1"})
    if table == 1:
        kind, _, network = zip(*(name.rpartition("-") for name in found["model"]), strict=True)
        found["detector"] = [DETECTORS[name] for name in network]
        found["distiller"] = [DISTILLERS.get(name, "none") for name in kind]
    elif table == 2:
        found["manipulation"], found["quality"], found["detector"] = "NeuralTextures", "c40", "resnet50"
        found["distiller"], found["eta"] = zip(*(PARTS[name] for name in found["model"]), strict=True)
    else:
        found["model"] = found["backbone"] + " " + found["method"]
        found["detector"] = found["backbone"].map(DETECTORS)
        found["distiller"] = found["method"].map({"baseline": "none", "ADD": "add"})
    found["manipulation"] = found["manipulation"].replace("DeepFakes", "Deepfakes")
    names = ["manipulation", "quality", "detector", "distiller", "model", "accuracy", "recall_at_1", "eta"]
    return found[[name for name in names if name in found]]
