"""Backbones with a common face: ``create_detector(name)`` gives a module whose output is (stages, embedding, logits)."""

from .base import Detection
from .resnet import BUILDERS

__all__ = ["Detection", "create_detector"]


def create_detector(name, num_classes=2, weights=None):
    """A detector by name, with fresh parameters.

    name: "resnet18", "resnet34", "resnet50", or "resnet18_narrow", a ResNet-18 of 24 to 192 channels for the CPU.
    num_classes: logits; 2 here, real and fake. weights: path of a state dict saved from the same detector, read with
    ``weights_only``; None leaves the random start. Nothing is downloaded.
    Raises ValueError for an unknown name or weights that do not fit, FileNotFoundError for a missing file.
    """
    if name not in BUILDERS:
        raise ValueError(f"unknown detector {name!r}; there are {sorted(BUILDERS)}")
    detector = BUILDERS[name](num_classes)
    if weights is not None:
        _load(detector, name, weights)
    return detector


def _load(detector, name, path):
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        detector.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not fit {name}: {error}; expected a state dict of addlib's {name}") from error
