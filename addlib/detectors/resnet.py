"""Residual networks with their four stages in reach (He et al., CVPR 2016)."""

import torch
from torch import nn

from .base import Detection, check_input


class StagedResNet(nn.Module):
    """A ResNet of torchvision or timm (both name their parts alike) that returns stages, embedding and logits.

    Input (B, 3, H, W), normalised floats. Stages: the four of the paper, after their last ReLU, at 1/4, 1/8, 1/16 and 1/32 of
    the input's sides; channels 64, 128, 256, 512 (ResNet-18, 34), 256, 512, 1024, 2048 (ResNet-50), 24, 48, 96, 192
    (narrow). Embedding: mean of the last stage.
    """

    public = "a ResNet of torchvision or timm"
    fresh = ()

    def __init__(self, network):
        super().__init__()
        self.stem = nn.Sequential(network.conv1, network.bn1, nn.ReLU(inplace=True), network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.head = network.fc

    def forward(self, x):
        check_input("a ResNet", x)
        x = self.stem(x)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        embedding = torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
        return Detection(tuple(stages), embedding, self.head(embedding))

    @staticmethod
    def translate(state):
        """State dict of torchvision or timm under our names; None if it is not one."""
        if "layer1.0.conv1.weight" not in state:
            return None
        ours = {"conv1": "stem.0", "bn1": "stem.1", "fc": "head"} | {f"layer{i + 1}": f"stages.{i}" for i in range(4)}
        found = {}
        for key, tensor in state.items():
            first, _, rest = key.partition(".")
            found[f"{ours.get(first, first)}.{rest}"] = tensor
        return found


class _Narrow(nn.Module):
    """The parts of a ResNet-18 or 34 with 24 to 192 channels, stem included: most of its time goes into the widest maps."""

    def __init__(self, num_classes, depths, widths=(24, 48, 96, 192)):
        from timm.models.resnet import BasicBlock, downsample_conv

        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            stride = 1 if number == 1 else 2
            shortcut = None if width == before else downsample_conv(before, width, 1, stride)
            first = BasicBlock(before, width, stride, shortcut)
            setattr(self, f"layer{number}", nn.Sequential(first, *(BasicBlock(width, width) for _ in range(depth - 1))))
            before = width
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet18(num_classes):
    return _torchvision("resnet18", num_classes)


def resnet34(num_classes):
    return _torchvision("resnet34", num_classes)


def resnet50(num_classes):
    return _torchvision("resnet50", num_classes)


def resnet18_narrow(num_classes):
    return StagedResNet(_Narrow(num_classes, (2, 2, 2, 2)))


def resnet34_narrow(num_classes):
    return StagedResNet(_Narrow(num_classes, (3, 4, 6, 3)))


def _torchvision(name, num_classes):
    import torchvision

    return StagedResNet(torchvision.models.get_model(name, weights=None, num_classes=num_classes))
