"""Backbones with a common face: ``create_detector(name)`` gives a module whose output is (stages, embedding, logits).

* ``resnet``: ResNet-18, 34, 50, and a narrow ResNet-18 and 34 for the CPU
* ``efficientnet``: EfficientNet-B0
* ``xception``: Xception
* ``inception_resnet``: Inception-ResNet-v1, for VGGFace2 weights
* ``f3net``: F3-Net on two Xceptions; ``dct`` holds its transform
* ``weights``: parameters from and to files

Every detector has ``head``, its last linear layer, ``name``, ``num_classes`` and ``options``.
"""

import inspect
from importlib import import_module

from .base import Detection
from .weights import imagenet_file, load_weights, read_detector, save_weights

__all__ = ["NAMES", "Detection", "create_detector", "load_weights", "normalisation", "read_detector", "save_weights"]

# Each is built by the function of its name in a module here, imported when asked for: torchvision alone takes seconds.
_MODULES = {
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "resnet18_narrow": "resnet",
    "resnet34_narrow": "resnet",
    "efficientnet_b0": "efficientnet",
    "xception": "xception",
    "inception_resnet_v1": "inception_resnet",
    "f3net": "f3net",
}
NAMES = tuple(_MODULES)


def create_detector(name, num_classes=2, weights=None, **options):
    """A detector by name.

    Args:
        name: one of ``NAMES``; "resnet18_narrow" and "resnet34_narrow" are a ResNet-18 and a 34 of 24 to 192 channels, for the
            CPU.
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
    known = list(inspect.signature(build).parameters)[1:]
    if not options.keys() <= set(known):
        raise ValueError(f"options of {name} are {sorted(options)}, expected any of {known}")
    detector = build(num_classes, **options)
    detector.name, detector.num_classes, detector.options = name, num_classes, options
    if weights is not None:
        load_weights(detector, imagenet_file(name) if weights == "imagenet" else weights)
    return detector


def normalisation(name):
    """(mean, std) of inputs scaled to [0, 1]: what a detector's crops are normalised with, all channels alike.

    0.5 and 0.5, the paper's for all of its backbones, but for "inception_resnet_v1", whose public weights were trained on
    (x - 127.5) / 128 of 8-bit values. Raises ValueError for an unknown name.
    """
    _builder(name, load=False)
    return (0.5, 128 / 255) if name == "inception_resnet_v1" else (0.5, 0.5)


def _builder(name, load=True):
    if name not in _MODULES:
        raise ValueError(f"unknown detector {name!r}; there are {sorted(NAMES)}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name) if load else None
