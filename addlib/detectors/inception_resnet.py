"""Inception-ResNet-v1 as a detector (Szegedy et al., "Inception-v4, Inception-ResNet", AAAI 2017), with VGGFace2 weights.

Architecture and names are those of the VGGFace2 model that facenet-pytorch publishes, the classifier on top is that of
Dogonadze et al., "Deep Face Forgery Detection" (2020): face embedding of length 1, ReLU, dropout, linear layer.
"""

from torch import Tensor, cat, nn

from .base import Backbone, Detection, pooled


class InceptionResNetV1(Backbone):
    """Inception-ResNet-v1 that returns stages, embedding and logits.

    Stages: ``conv2d_4a``, ``repeat_1``, ``repeat_2`` and ``block8`` (of either sign); channels 192, 256, 896, 1792; 28, 13, 6
    and 2 pixels wide at 128. Embedding: (B, 512), positive part of a vector of length 1. ``dropout`` is the share of it that
    is dropped before the classifier, in training; there is none in front of ``last_linear``, which would put noise into it.
    """

    smallest = 75  # else the unpadded convolutions leave no pixel
    # The public classifier of identities saw the embedding before normalisation and ReLU: it never fits.
    marker, renames = "mixed_6a.branch0.conv.weight", {"logits.": None, "": ""}
    normalisation = (0.5, 128 / 255)  # (x - 127.5) / 128 of 8-bit values

    def __init__(self, num_classes: int, dropout: float = 0.5):
        super().__init__()
        self.conv2d_1a, self.conv2d_2a, self.conv2d_2b = _unit(3, 32, 3, 2), _unit(32, 32, 3), _unit(32, 64, 3, 1, 1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b, self.conv2d_4a, self.conv2d_4b = _unit(64, 80, 1), _unit(80, 192, 3), _unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block_a() for _ in range(5)))
        first, second = _unit(256, 384, 3, 2), _units((256, 192, 1), (192, 192, 3, 1, 1), (192, 256, 3, 2))
        self.mixed_6a = _Branches(first, second, nn.MaxPool2d(3, 2))
        self.repeat_2 = nn.Sequential(*(_block_bc(896, 128, 7, 0.1) for _ in range(10)))
        tails = ((256, 384, 3, 2),), ((256, 256, 3, 2),), ((256, 256, 3, 1, 1), (256, 256, 3, 2))
        self.mixed_7a = _Branches(*(_units((896, 256, 1), *tail) for tail in tails), nn.MaxPool2d(3, 2))
        self.repeat_3 = nn.Sequential(*(_block_bc(1792, 192, 3, 0.2) for _ in range(5)))
        self.block8 = _block_bc(1792, 192, 3, 1.0, relu=False)
        self.last_linear, self.last_bn = nn.Linear(1792, 512, bias=False), nn.BatchNorm1d(512, eps=1e-3)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Detection:
        self.check(x)
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        first = self.conv2d_4a(self.conv2d_3b(x))
        second = self.repeat_1(self.conv2d_4b(first))
        third = self.repeat_2(self.mixed_6a(second))
        fourth = self.block8(self.repeat_3(self.mixed_7a(third)))
        # Out of autocast's half precision: 512 squares of it would be a poor length to divide by.
        face = self.last_bn(self.last_linear(pooled(fourth))).to(self.head.weight.dtype)
        embedding = nn.functional.normalize(face, dim=1).relu()
        return Detection((first, second, third, fourth), embedding, self.head(self.dropout(embedding)))


def _unit(inputs, outputs, kernel, stride=1, padding=0):
    """Convolution, batch normalisation (TensorFlow's epsilon), ReLU."""
    from torchvision.models.inception import BasicConv2d

    return BasicConv2d(inputs, outputs, kernel_size=kernel, stride=stride, padding=padding)


def _units(*settings):
    return nn.Sequential(*(_unit(*each) for each in settings))


class _Branches(nn.Module):
    """Branches side by side, concatenated; with ``join``, x + scale × their 1 × 1 convolution, then ReLU."""

    def __init__(self, *branches, join=None, scale=1.0, relu=True):
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.conv2d = join and nn.Conv2d(*join, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x):
        y = cat([branch(x) for name, branch in self.named_children() if name.startswith("branch")], 1)
        if self.conv2d is None:
            return y
        y = x.add(self.conv2d(y), alpha=self.scale)
        return y.relu() if self.relu else y


def _block_a():
    """Inception-ResNet-A."""
    one, three = (256, 32, 1), (32, 32, 3, 1, 1)
    return _Branches(_unit(*one), _units(one, three), _units(one, three, three), join=(96, 256), scale=0.17)


def _block_bc(channels, width, length, scale, relu=True):
    """Inception-ResNet-B (length 7) or C (length 3): 1 × 1, and 1 × length followed by length × 1."""
    half = length // 2
    # In this order: it decides which random numbers each weight gets.
    across, down = _unit(width, width, (1, length), 1, (0, half)), _unit(width, width, (length, 1), 1, (half, 0))
    branches = _unit(channels, width, 1), nn.Sequential(_unit(channels, width, 1), across, down)
    return _Branches(*branches, join=(2 * width, channels), scale=scale, relu=relu)
