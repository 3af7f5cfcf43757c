"""Residual networks with their four stages in reach (He et al., CVPR 2016; torchvision's blocks)."""

from types import SimpleNamespace

from torch import Tensor, nn

from .base import Backbone, Detection, pooled


class StagedResNet(Backbone):
    """A ResNet that returns stages, embedding and logits.

    Stages: the four of the paper, after their last ReLU, at 1/4, 1/8, 1/16 and 1/32 of the input's sides; channels 64, 128,
    256, 512 (ResNet-18, 34), 256, 512, 1024, 2048 (ResNet-50), 24, 48, 96, 192 (narrow 18, 34), 48, 96, 192, 384 (narrow 50).
    Embedding: mean of the last stage.
    """

    marker = "layer1.0.conv1.weight"
    renames = {f"layer{number + 1}.": f"stages.{number}." for number in range(4)}
    renames |= {"conv1.": "stem.0.", "bn1.": "stem.1.", "fc.": "head.", "": ""}

    def __init__(self, network):
        super().__init__()
        self.stem = nn.Sequential(network.conv1, network.bn1, nn.ReLU(inplace=True), network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.head = network.fc

    def forward(self, x: Tensor) -> Detection:
        self.check(x)
        x = self.stem(x)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        embedding = pooled(x)
        return Detection(tuple(stages), embedding, self.head(embedding))


def narrow(depths, widths, bottleneck, num_classes: int) -> StagedResNet:
    """Fewer channels, in the stem too: most of a ResNet's time goes into the widest maps."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    block = Bottleneck if bottleneck else BasicBlock
    conv1, bn1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False), nn.BatchNorm2d(widths[0])
    before, layers = widths[0], {}
    for number, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        after, stride, shortcut = width * block.expansion, 1 if number == 1 else 2, None
        if (before, stride) != (after, 1):
            shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        first = block(before, width, stride, shortcut)
        layers[f"layer{number}"] = nn.Sequential(first, *(block(after, width) for _ in range(depth - 1)))
        before = after
    head = nn.Linear(before, num_classes)
    detector = StagedResNet(SimpleNamespace(conv1=conv1, bn1=bn1, maxpool=nn.MaxPool2d(3, 2, 1), fc=head, **layers))
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return detector
