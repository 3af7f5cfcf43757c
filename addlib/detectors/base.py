"""What every detector takes and gives back."""

import copy
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn


class Detection(NamedTuple):
    """Output of a detector for a batch of B crops.

    stages: feature maps (B, C, H, W), shallow to deep. embedding: (B, D), what the last linear layer sees. logits: (B, classes).
    """

    stages: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor


@torch.no_grad()
def answer_of(detector: nn.Module, size: int) -> Detection:
    """What a detector answers to two black crops, on the CPU. Raises ValueError where that is not what a detector answers."""
    answer = copy.deepcopy(detector).cpu().eval()(torch.zeros(2, 3, size, size))
    what, head = f"what {type(detector).__name__} answers to two crops", getattr(detector, "head", None)
    if not isinstance(answer, Detection) or not isinstance(head, nn.Linear):
        found = f"a {type(answer).__name__}, and its head is a {type(head).__name__}"
        raise ValueError(f"{what} is {found}; expected a Detection, and as head its last linear layer")
    shapes = {"stage": "(2, C, H, W)", "embedding": f"(2, {head.in_features})", "logits": f"(2, {head.out_features})"}
    parts = [*(("stage", stage) for stage in answer.stages), ("embedding", answer.embedding), ("logits", answer.logits)]
    for name, tensor in parts:
        wanted, found = shapes[name], tuple(tensor.shape)
        if str(found) != wanted and (name != "stage" or len(found) != 4 or found[0] != 2):
            raise ValueError(f"{what} has {name} {found}; expected {wanted}")
    return answer


def check_detectors(*detectors: nn.Module) -> None:
    """Raise ValueError unless all are of ``create_detector`` with two classes."""
    if {getattr(each, "num_classes", None) for each in detectors} != {2}:
        kinds = [f"{type(each).__name__} of {getattr(each, 'num_classes', 'unknown')}" for each in detectors]
        raise ValueError(f"detector is {kinds} classes; expected one or more of create_detector with two classes")


class Backbone(nn.Module):
    """Base of the detectors here: it checks crops, and renames public weights."""

    smallest = 1  # side of a crop in pixels
    marker = ""  # a key that public weights of this architecture hold
    renames: dict[str, str | None] = {"": ""}  # beginnings of their keys → of ours, None for what is not taken
    fresh: tuple[str, ...] = ()  # beginnings of keys of ours that they do not fill

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless x is a batch of normalised RGB crops, large enough."""
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point() or min(x.shape[2:]) < self.smallest:
            wanted = f"normalised floats (B, 3, H, W), sides at least {self.smallest}"
            raise ValueError(f"crops are {x.dtype} of shape {tuple(x.shape)}, expected {wanted}")

    @classmethod
    def torchvision(cls, name: str, num_classes: int) -> Self:
        """torchvision's network of this name."""
        from torchvision.models import get_model

        return cls(get_model(name, num_classes=num_classes))

    @classmethod
    def translate(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """A public state dict under our names; None if it is not one."""
        if cls.marker not in state:
            return None
        pairs = [(key, next(old for old in cls.renames if key.startswith(old))) for key in state]
        return {cls.renames[old] + key[len(old) :]: state[key] for key, old in pairs if cls.renames[old] is not None}


def pooled(stage: Tensor) -> Tensor:
    """Mean of a map over its places, (B, C)."""
    return nn.functional.adaptive_avg_pool2d(stage, 1).flatten(1)
