"""Residual networks with their four stages in reach (He et al., CVPR 2016)."""

from functools import partial

import torch
import torchvision
from timm.models.resnet import BasicBlock
from timm.models.resnet import ResNet as TimmResNet
from torch import nn

from .base import Detection


class StagedResNet(nn.Module):
    """A ResNet of torchvision or timm (both name their parts alike) that returns stages, embedding and logits.

    Input (B, 3, H, W), normalised floats; stages at 1/4, 1/8, 1/16 and 1/32 of its sides.
    """

    def __init__(self, network):
        super().__init__()
        self.stem = nn.Sequential(network.conv1, network.bn1, nn.ReLU(inplace=True), network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.head = network.fc

    def forward(self, x):
        x = self.stem(x)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        embedding = torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
        return Detection(tuple(stages), embedding, self.head(embedding))


def _torchvision(name, num_classes):
    return StagedResNet(getattr(torchvision.models, name)(weights=None, num_classes=num_classes))


def _narrow(num_classes):
    return StagedResNet(TimmResNet(BasicBlock, [2, 2, 2, 2], num_classes=num_classes, channels=(24, 48, 96, 192)))


BUILDERS = {name: partial(_torchvision, name) for name in ("resnet18", "resnet34", "resnet50")} | {
    "resnet18_narrow": _narrow
}
