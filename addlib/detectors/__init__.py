"""Backbones with one interface: ``create_detector(name)`` gives a module whose output is (stages, embedding, logits).

Every detector has ``head``, its last linear layer, ``name``, ``num_classes`` and ``options``.
"""

import inspect
import json
from collections.abc import Callable
from functools import partial

from torch import nn

from . import efficientnet, f3net, inception_resnet, resnet, xception
from .base import Detection
from .weights import imagenet_file, load_weights, read_weights, save_weights

__all__ = ["DETECTORS", "Detection", "create_detector", "load_weights", "normalisation", "read_detector"]
__all__ += ["register_detector", "save_weights"]

# What builds each, (num_classes, **options) -> module. torchvision and timm are imported when a network of theirs is built.
DETECTORS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(resnet.StagedResNet.torchvision, name) for name in ("resnet18", "resnet34", "resnet50")},
    "resnet18_narrow": partial(resnet.narrow, (2, 2, 2, 2), (24, 48, 96, 192), False),
    "resnet34_narrow": partial(resnet.narrow, (3, 4, 6, 3), (24, 48, 96, 192), False),
    "resnet50_narrow": partial(resnet.narrow, (3, 4, 6, 3), (12, 24, 48, 96), True),
    "efficientnet_b0": partial(efficientnet.StagedEfficientNet.torchvision, "efficientnet_b0"),
    "efficientnet_b0_narrow": efficientnet.narrow,
    "xception": xception.StagedXception,
    "inception_resnet_v1": inception_resnet.InceptionResNetV1,
    "f3net": f3net.F3Net,
}


def register_detector(name: str) -> Callable:
    """Decorator that adds a detector of one's own under a name.

    It decorates a class or function of ``num_classes`` and any options; what is built returns a :class:`Detection` and has
    ``head``, its last linear layer. The class or function may have ``normalisation``, (mean, std) of its inputs, two numbers;
    what is built may have ``loss_defaults``, settings of the distillation losses that this backbone needs changed. Raises
    ValueError if the name is taken.
    """

    def add(build):
        if name in DETECTORS and not same_place(DETECTORS[name], build):
            raise ValueError(f"there is a detector {name!r} already; take another name")
        DETECTORS[name] = build
        return build

    return add


def same_place(one: Callable, other: Callable) -> bool:
    """Whether both were written in one module: a cell or a file that is run again may register again."""
    return len({getattr(each, "func", each).__module__ for each in (one, other)}) == 1


def create_detector(name: str, num_classes: int = 2, weights=None, **options) -> nn.Module:
    """A detector by name.

    Args:
        name: one of ``DETECTORS``; the narrow ones are for the CPU.
        num_classes: logits; 2 here, real and fake.
        weights: None for a random start, a path for :func:`load_weights`, or ``"imagenet"`` for the public ImageNet ones.
        options: ``size`` (128) of the crops for "f3net", ``dropout`` for "f3net" (0.2) and "inception_resnet_v1" (0.5).

    Returns:
        A module that maps (B, 3, H, W) floats, scaled as :func:`normalisation` says, to a :class:`Detection`.

    Raises:
        ValueError: unknown name or option, or weights that do not fit.
        OSError: weights that are not there.
    """
    known = sorted(detector_options(name))
    if num_classes < 1 or not options.keys() <= set(known):
        raise ValueError(f"num_classes {num_classes}, options {options} of {name}; expected 1 or more, any of {known}")
    detector = DETECTORS[name](num_classes, **options)
    detector.name, detector.num_classes, detector.options = name, num_classes, options
    if weights is not None:
        load_weights(detector, imagenet_file(name) if weights == "imagenet" else weights)
    return detector


def detector_options(name: str) -> set[str]:
    """Names of the options that a detector has."""
    return set(list(inspect.signature(_builder(name)).parameters)[1:])


def read_detector(path) -> tuple[nn.Module, dict]:
    """The detector of a file of :func:`save_weights`, in evaluation mode, and what was written about it."""
    _, about = read_weights(path)
    if "name" not in about:
        raise ValueError(f"{path} does not say which detector it is of; expected a file of save_weights")
    try:
        options, classes = dict(json.loads(about["options"])), int(about["num_classes"])
        told = dict(json.loads(about.get("about", "{}")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} says of itself what save_weights does not write ({error!r}); save it again") from error
    return create_detector(about["name"], classes, weights=path, **options).eval(), told


def normalisation(name: str) -> tuple[float, float]:
    """(mean, std) of inputs scaled to [0, 1], for all channels: 0.5 and 0.5, the paper's, unless the detector has its own."""
    return getattr(_builder(name), "normalisation", (0.5, 0.5))


def _builder(name):
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; there are {sorted(DETECTORS)}; one of your own: a plugin registers it")
    return DETECTORS[name]
