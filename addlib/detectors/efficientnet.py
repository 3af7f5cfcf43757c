"""EfficientNet-B0 with its resolutions in reach (Tan and Le, ICML 2019; torchvision's)."""

import torch
from torch import nn

from .base import Detection, check_input

# torchvision numbers the stem 0, the seven groups of blocks 1 to 7 and the last convolution 8.
STAGES = (2, 3, 5, 8)


class StagedEfficientNet(nn.Module):
    """torchvision's EfficientNet that returns stages, embedding and logits.

    Input (B, 3, H, W), normalised floats. Stages: the last map of each resolution from 1/4 of the input's sides down, as in a
    ResNet: 24 channels at 1/4, 40 at 1/8, 112 at 1/16, 1280 at 1/32. The first three are the linear outputs of the blocks, of
    either sign; the last is the one that is pooled. Embedding: its mean, before dropout.
    """

    public = "torchvision's efficientnet_b0"
    fresh = ()

    def __init__(self, network):
        super().__init__()
        self.features = network.features
        self.dropout, self.head = network.classifier

    def forward(self, x):
        check_input("efficientnet_b0", x)
        stages = []
        for number, layers in enumerate(self.features):
            x = layers(x)
            if number in STAGES:
                stages.append(x)
        embedding = torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
        # torchvision drops out in place, which would change the embedding that is returned.
        logits = self.head(nn.functional.dropout(embedding, self.dropout.p, self.training))
        return Detection(tuple(stages), embedding, logits)

    @staticmethod
    def translate(state):
        """State dict of torchvision under our names; None if it is not one."""
        if "classifier.1.weight" not in state:
            return None
        return {key.replace("classifier.1.", "head."): tensor for key, tensor in state.items()}


def efficientnet_b0(num_classes):
    import torchvision

    return StagedEfficientNet(torchvision.models.efficientnet_b0(weights=None, num_classes=num_classes))
