"""EfficientNet-B0 (Tan and Le, ICML 2019; torchvision's)."""

from torch import Tensor, nn

from .base import Backbone, Detection, pooled

# torchvision numbers the stem 0, the seven groups of blocks 1 to 7 and the last convolution 8.
STAGES = (2, 3, 5, 8)


class StagedEfficientNet(Backbone):
    """torchvision's EfficientNet that returns stages, embedding and logits.

    Stages: the last map of each resolution from 1/4 of the input's sides to 1/32; channels 24, 40, 112, 1280 (narrow: 16, 24,
    56, 640). The first three are linear outputs, of either sign. Embedding: mean of the last stage, before dropout.
    """

    marker, renames = "classifier.1.weight", {"classifier.1.": "head.", "": ""}
    # Settings of ADD that the paper changes for this backbone (implementation details): γ of frequency attention.
    loss_defaults = {"gamma_fr": 1e-3}

    def __init__(self, network: nn.Module):
        super().__init__()
        self.features = network.features
        self.dropout, self.head = network.classifier
        self.dropout.inplace = False  # else it would change the embedding that is returned

    def forward(self, x: Tensor) -> Detection:
        self.check(x)
        stages = []
        for number, layers in enumerate(self.features):
            x = layers(x)
            if number in STAGES:
                stages.append(x)
        embedding = pooled(x)
        return Detection(tuple(stages), embedding, self.head(self.dropout(embedding)))


def narrow(num_classes: int) -> StagedEfficientNet:
    """Half the channels and half the blocks. On a CPU train it with ``precision="32-true"``: bfloat16 is slow there."""
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    # Expansion, kernel, stride, channels in and out, blocks: table 1 of Tan and Le.
    groups = [
        (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3),
        (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
    ]  # fmt: skip
    scaled = [MBConvConfig(*group, width_mult=0.5, depth_mult=0.5) for group in groups]
    return StagedEfficientNet(EfficientNet(scaled, dropout=0.2, num_classes=num_classes))
