"""Inception-ResNet-v1 as a detector (Szegedy et al., "Inception-v4, Inception-ResNet", AAAI 2017), with VGGFace2 weights.

The architecture is that of FaceNet's public VGGFace2 model, and parts are named as in the state dict that facenet-pytorch
publishes (``20180402-114759-vggface2.pt``). The classifier on top is that of Dogonadze et al., "Deep Face Forgery Detection"
(2020): the face embedding of length 1, ReLU, dropout, one linear layer.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, cat, nn

from .base import Detection, check_input, pooled

SMALLEST = 75  # side of the smallest crop that the unpadded convolutions leave a pixel of


class InceptionResNetV1(nn.Module):
    """Inception-ResNet-v1 that returns stages, embedding and logits.

    Args:
        num_classes: logits.
        dropout: share of the embedding dropped before the classifier, while training. The dropout in front of
            ``last_linear``, with which the public weights were trained, is left out: it would put noise into the embedding.

    Input (B, 3, H, W), (x - 127.5) / 128 of 8-bit values, at least 75 × 75. Stages: ``conv2d_4a`` (192 channels at about 1/4
    of the input's sides), ``repeat_1`` (256 at 1/8), ``repeat_2`` (896 at 1/16), ``block8`` (1792 at 1/32, of either sign);
    28, 13, 6 and 2 pixels wide at 128: there is little padding. Embedding: (B, 512), positive part of a vector of length 1.
    """

    public = "facenet-pytorch's VGGFace2 or CASIA-WebFace weights"
    fresh = ()
    normalisation = (0.5, 128 / 255)  # (x - 127.5) / 128 of 8-bit values

    def __init__(self, num_classes: int, dropout: float = 0.5):
        super().__init__()
        self.conv2d_1a = _unit(3, 32, 3, stride=2)
        self.conv2d_2a = _unit(32, 32, 3)
        self.conv2d_2b = _unit(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _unit(64, 80, 1)
        self.conv2d_4a = _unit(80, 192, 3)
        self.conv2d_4b = _unit(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Branches(
            _unit(256, 384, 3, stride=2),
            nn.Sequential(_unit(256, 192, 1), _unit(192, 192, 3, padding=1), _unit(192, 256, 3, stride=2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(_cross_block(896, 128, 7, scale=0.1) for _ in range(10)))
        self.mixed_7a = _Branches(
            nn.Sequential(_unit(896, 256, 1), _unit(256, 384, 3, stride=2)),
            nn.Sequential(_unit(896, 256, 1), _unit(256, 256, 3, stride=2)),
            nn.Sequential(_unit(896, 256, 1), _unit(256, 256, 3, padding=1), _unit(256, 256, 3, stride=2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_3 = nn.Sequential(*(_cross_block(1792, 192, 3, scale=0.2) for _ in range(5)))
        self.block8 = _cross_block(1792, 192, 3, scale=1.0, relu=False)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Detection:
        check_input("inception_resnet_v1", x, smallest=SMALLEST)
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        first = self.conv2d_4a(self.conv2d_3b(x))
        second = self.repeat_1(self.conv2d_4b(first))
        third = self.repeat_2(self.mixed_6a(second))
        fourth = self.block8(self.repeat_3(self.mixed_7a(third)))
        # Out of autocast's half precision: 512 squares of it would be a poor length to divide by.
        face = self.last_bn(self.last_linear(pooled(fourth))).to(self.head.weight.dtype)
        embedding = nn.functional.normalize(face, dim=1).relu()
        return Detection((first, second, third, fourth), embedding, self.head(self.dropout(embedding)))

    @staticmethod
    def translate(state: dict) -> dict | None:
        """State dict of facenet-pytorch without its classifier of identities; None if it is not one.

        That classifier never fits: it saw the embedding before normalisation and ReLU.
        """
        if "last_linear.weight" not in state or "mixed_6a.branch0.conv.weight" not in state:
            return None
        return {key: tensor for key, tensor in state.items() if not key.startswith("logits.")}


def _unit(inputs, outputs, kernel, stride=1, padding=0):
    """Convolution, batch normalisation (TensorFlow's epsilon), ReLU."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
            bn=nn.BatchNorm2d(outputs, eps=1e-3),
            relu=nn.ReLU(inplace=True),
        )
    )


class _Branches(nn.Module):
    """Branches side by side on one input, their outputs concatenated along the channels."""

    def __init__(self, *branches):
        super().__init__()
        self.count = len(branches)
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)

    def forward(self, x):
        return cat([getattr(self, f"branch{number}")(x) for number in range(self.count)], 1)


class _Residual(_Branches):
    """x + scale × (1 × 1 convolution of the branches), then ReLU; small scales keep deep stacks stable."""

    def __init__(self, channels, inner, branches, scale, relu=True):
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(inner, channels, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x):
        x = x.add(self.conv2d(super().forward(x)), alpha=self.scale)
        return x.relu() if self.relu else x


def _block35():
    """Inception-ResNet-A: 1 × 1, 3 × 3, and two 3 × 3 after one another."""
    branches = (
        _unit(256, 32, 1),
        nn.Sequential(_unit(256, 32, 1), _unit(32, 32, 3, padding=1)),
        nn.Sequential(_unit(256, 32, 1), _unit(32, 32, 3, padding=1), _unit(32, 32, 3, padding=1)),
    )
    return _Residual(256, 96, branches, 0.17)


def _cross_block(channels, width, length, scale, relu=True):
    """Inception-ResNet-B (length 7) or C (length 3): 1 × 1, and 1 × length followed by length × 1."""
    half = length // 2
    across = _unit(width, width, (1, length), padding=(0, half))
    down = _unit(width, width, (length, 1), padding=(half, 0))
    branches = (_unit(channels, width, 1), nn.Sequential(_unit(channels, width, 1), across, down))
    return _Residual(channels, 2 * width, branches, scale, relu)
