"""Checks of what the metrics receive. Nothing here is part of the public interface."""

from __future__ import annotations

import numpy as np
import torch


def to_array(values) -> np.ndarray:
    """Tensor of any device, array or sequence as a NumPy array; bfloat16, which NumPy lacks, becomes float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def check_scored(probabilities, labels) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of fake as float64 (N,) and labels as int64 (N,).

    Raises:
        ValueError: shapes are not one (N,), N is 0, a probability is no float, NaN or outside [0, 1], or a label is
            not an integer 0 or 1.
    """
    probabilities, labels = to_array(probabilities), to_array(labels)
    if probabilities.ndim != 1:
        raise ValueError(
            f"probabilities are {probabilities.shape}, expected (N,): that of fake alone, such as logits.softmax(1)[:, 1]"
        )
    if labels.shape != probabilities.shape:
        raise ValueError(f"labels are {labels.shape} and probabilities {probabilities.shape}; expected one each (N,)")
    if not len(labels):
        raise ValueError("probabilities and labels are empty, expected at least one sample")
    if probabilities.dtype.kind != "f":
        raise ValueError(f"probabilities are {probabilities.dtype}, expected floats in [0, 1]")
    missing = np.isnan(probabilities)
    if missing.any():
        raise ValueError(
            f"{missing.sum()} of {len(missing)} probabilities are NaN, the first at {missing.argmax()}; "
            "a model that diverged has no score"
        )
    low, high = probabilities.min(), probabilities.max()
    if low < 0 or high > 1:
        raise ValueError(f"probabilities span {low:g} to {high:g}, expected [0, 1]; give logits to softmax first")
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels are {labels.dtype}, expected integers: 1 for fake, 0 for real")
    strange = sorted(set(np.unique(labels).tolist()) - {0, 1})
    if strange:
        raise ValueError(f"labels hold {strange[:5]}, expected 1 for fake and 0 for real alone")
    return probabilities.astype(np.float64), labels.astype(np.int64)


def check_names(name: str, values, length: int) -> np.ndarray:
    """Names or numbers of groups as an array (N,); raise ``ValueError`` unless there is one for each sample."""
    values = to_array(values)
    if values.shape != (length,):
        raise ValueError(f"{name} are {values.shape} for {length} samples; expected one each, ({length},)")
    return values


def check_count(name: str, value, *, minimum: int = 1) -> int:
    """Return ``value`` as an int; raise ``ValueError`` unless it is a whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {minimum}")
    return int(value)


def check_level(level) -> float:
    """Return ``level`` as a float; raise ``ValueError`` unless it lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}, expected a share between 0 and 1, such as 0.95")
    return float(level)
