"""Residual networks with their four stages in reach (He et al., CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Detection, check_input, pooled


class StagedResNet(nn.Module):
    """A ResNet whose parts are named as torchvision and timm name them.

    Input (B, 3, H, W), normalised floats. Stages: the four of the paper, after their last ReLU, at 1/4, 1/8, 1/16 and 1/32 of
    the input's sides; channels 64, 128, 256, 512 (ResNet-18, 34), 256, 512, 1024, 2048 (ResNet-50), 24, 48, 96, 192 (narrow
    18, 34), 48, 96, 192, 384 (narrow 50). Embedding: mean of the last stage.
    """

    public = "a ResNet of torchvision or timm"
    fresh = ()

    def __init__(self, network: nn.Module):
        super().__init__()
        self.stem = nn.Sequential(network.conv1, network.bn1, nn.ReLU(inplace=True), network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.head = network.fc

    def forward(self, x: Tensor) -> Detection:
        check_input("a ResNet", x)
        x = self.stem(x)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        embedding = pooled(x)
        return Detection(tuple(stages), embedding, self.head(embedding))

    @staticmethod
    def translate(state: dict) -> dict | None:
        """State dict of torchvision or timm under our names; None if it is not one."""
        if "layer1.0.conv1.weight" not in state:
            return None
        ours = {"conv1": "stem.0", "bn1": "stem.1", "fc": "head"} | {f"layer{i + 1}": f"stages.{i}" for i in range(4)}
        parts = {key: key.partition(".") for key in state}
        return {f"{ours.get(first, first)}.{rest}": state[key] for key, (first, _, rest) in parts.items()}


class _Block(nn.Module):
    """A residual block: two 3 × 3 convolutions, or as a bottleneck 1 × 1, 3 × 3 and 1 × 1 to ``expansion`` times the width."""

    def __init__(self, before: int, width: int, stride: int, expansion: int):
        after, shortcut = width * expansion, None
        if before != after or stride > 1:
            # Before the convolutions: the order decides which random numbers each weight gets.
            shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        super().__init__()
        layers = [(before, width, 3, stride), (width, width, 3, 1)]
        if expansion > 1:
            layers = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
        for number, (inputs, outputs, kernel, step) in enumerate(layers, 1):
            setattr(self, f"conv{number}", nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)
        self.depth, self.downsample = len(layers), shortcut

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = self.relu(y) if number < self.depth else y
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class _Narrow(nn.Module):
    """The parts of a ResNet with 24 to 192 channels, stem included: most of its time goes into the widest maps."""

    def __init__(self, num_classes, depths, widths=(24, 48, 96, 192), expansion=1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            blocks = []
            for index in range(depth):
                blocks.append(_Block(before, width, 2 if number > 1 and index == 0 else 1, expansion))
                before = width * expansion
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet18(num_classes: int) -> StagedResNet:
    return _torchvision("resnet18", num_classes)


def resnet34(num_classes: int) -> StagedResNet:
    return _torchvision("resnet34", num_classes)


def resnet50(num_classes: int) -> StagedResNet:
    return _torchvision("resnet50", num_classes)


def resnet18_narrow(num_classes: int) -> StagedResNet:
    return StagedResNet(_Narrow(num_classes, (2, 2, 2, 2)))


def resnet34_narrow(num_classes: int) -> StagedResNet:
    return StagedResNet(_Narrow(num_classes, (3, 4, 6, 3)))


def resnet50_narrow(num_classes: int) -> StagedResNet:
    return StagedResNet(_Narrow(num_classes, (3, 4, 6, 3), (12, 24, 48, 96), expansion=4))


def _torchvision(name, num_classes):
    import torchvision

    return StagedResNet(torchvision.models.get_model(name, weights=None, num_classes=num_classes))
