"""Backbones with a common face: ``create_detector(name)`` gives a module whose output is (stages, embedding, logits).

* ``resnet``: ResNet-18, 34, 50, and narrow ones for the CPU
* ``efficientnet``: EfficientNet-B0, and a narrow one
* ``xception``: Xception
* ``inception_resnet``: Inception-ResNet-v1, for VGGFace2 weights
* ``f3net``: F3-Net on two Xceptions; ``dct`` holds its transform
* ``weights``: parameters from and to files

Every detector has ``head``, its last linear layer, ``name``, ``num_classes`` and ``options``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable

from torch import nn

from . import efficientnet, f3net, inception_resnet, resnet, xception
from .base import Detection
from .weights import imagenet_file, load_weights, read_metadata, save_weights

__all__ = [
    "DETECTORS", "Detection", "create_detector", "load_weights", "normalisation", "read_detector", "register_detector",
    "save_weights",
]  # fmt: skip

# What builds each, (num_classes, **options) -> module. torchvision and timm are imported when a network of theirs is built.
DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet18_narrow": resnet.resnet18_narrow,
    "resnet34_narrow": resnet.resnet34_narrow,
    "resnet50_narrow": resnet.resnet50_narrow,
    "efficientnet_b0": efficientnet.efficientnet_b0,
    "efficientnet_b0_narrow": efficientnet.efficientnet_b0_narrow,
    "xception": xception.StagedXception,
    "inception_resnet_v1": inception_resnet.InceptionResNetV1,
    "f3net": f3net.F3Net,
}


def register_detector(name: str) -> Callable:
    """Decorator that adds a detector of one's own under a name.

    It decorates what builds the detector: a class or a function of ``num_classes`` and, if it likes, further options. What is
    built returns a :class:`Detection` and has ``head``, its last linear layer. It may have ``normalisation``, (mean, std) of
    its inputs, and ``loss_defaults``, settings of the distillation losses that this backbone needs changed.

    Raises:
        ValueError: the name is taken.
    """

    def add(build):
        if name in DETECTORS and DETECTORS[name].__module__ != build.__module__:
            raise ValueError(f"there is a detector {name!r} already, in {DETECTORS[name].__module__}; take another name")
        DETECTORS[name] = build
        return build

    return add


def create_detector(name: str, num_classes: int = 2, weights=None, **options) -> nn.Module:
    """A detector by name.

    Args:
        name: one of ``DETECTORS``; the narrow ones are for the CPU.
        num_classes: logits; 2 here, real and fake.
        weights: None for a random start, for which nothing is read or downloaded. Path of a file, see
            :func:`load_weights`: weights of the same detector, or the public ones of its architecture. ``"imagenet"``:
            the public ImageNet weights out of torch.hub's cache, downloaded if they are not there. The head stays random
            with public weights, unless they have as many classes.
        options: "f3net": ``size`` (128), height and width of the crops, and ``dropout`` (0.2).
            "inception_resnet_v1": ``dropout`` (0.5). The others have none.

    Returns:
        A module in training mode that takes (B, 3, H, W) floats, scaled as :func:`normalisation` says for weights that
        were trained so, and returns a :class:`Detection`. Its class says what the stages are.

    Raises:
        ValueError: unknown name or option, or weights that do not fit. FileNotFoundError: no such file. OSError: the
            ImageNet weights cannot be downloaded.
    """
    build = _builder(name)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes!r}, expected a whole number of at least 1")
    if not options.keys() <= (known := detector_options(name)):
        raise ValueError(f"options of {name} are {sorted(options)}, expected any of {sorted(known)}")
    detector = build(num_classes, **options)
    detector.name, detector.num_classes, detector.options = name, num_classes, options
    if weights is not None:
        load_weights(detector, imagenet_file(name) if weights == "imagenet" else weights)
    return detector


def detector_options(name: str) -> set[str]:
    """Names of the options that a detector has."""
    return set(list(inspect.signature(_builder(name)).parameters)[1:])


def read_detector(path) -> tuple[nn.Module, dict]:
    """The detector that :func:`save_weights` wrote, in evaluation mode, and what was written about it.

    Args:
        path: a ``.safetensors`` of ``save_weights``, such as weights.safetensors in the folder of a training.

    Raises:
        As :func:`load_weights`; ValueError for a file that does not say which detector it is of.
    """
    about = read_metadata(path)
    options = json.loads(about["options"])
    detector = create_detector(about["name"], int(about["num_classes"]), weights=path, **options)
    return detector.eval(), json.loads(about.get("about", "{}"))


def normalisation(name: str) -> tuple[float, float]:
    """(mean, std) of inputs scaled to [0, 1]: what a detector's crops are normalised with, all channels alike.

    0.5 and 0.5, the paper's for all of its backbones, unless the detector says otherwise. Raises ValueError for an unknown
    name.
    """
    return getattr(_builder(name), "normalisation", (0.5, 0.5))


def _builder(name):
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; there are {sorted(DETECTORS)}")
    return DETECTORS[name]
