"""EfficientNet-B0 with its resolutions in reach (Tan and Le, ICML 2019; torchvision's)."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Detection, check_input, pooled

# torchvision numbers the stem 0, the seven groups of blocks 1 to 7 and the last convolution 8.
STAGES = (2, 3, 5, 8)


class StagedEfficientNet(nn.Module):
    """torchvision's EfficientNet that returns stages, embedding and logits.

    Input (B, 3, H, W), normalised floats. Stages: the last map of each resolution from 1/4 of the input's sides down, as in a
    ResNet: 24 channels at 1/4, 40 at 1/8, 112 at 1/16, 1280 at 1/32 (narrow: 16, 24, 56, 640). The first three are the linear
    outputs of the blocks, of either sign; the last is the one that is pooled. Embedding: its mean, before dropout.
    """

    public = "torchvision's efficientnet_b0"
    fresh = ()
    # Settings of ADD that the paper changes for this backbone (implementation details): γ of frequency attention.
    loss_defaults = {"gamma_fr": 1e-3}

    def __init__(self, network: nn.Module):
        super().__init__()
        self.features = network.features
        self.dropout, self.head = network.classifier

    def forward(self, x: Tensor) -> Detection:
        check_input("efficientnet_b0", x)
        stages = []
        for number, layers in enumerate(self.features):
            x = layers(x)
            if number in STAGES:
                stages.append(x)
        embedding = pooled(x)
        # torchvision drops out in place, which would change the embedding that is returned.
        logits = self.head(nn.functional.dropout(embedding, self.dropout.p, self.training))
        return Detection(tuple(stages), embedding, logits)

    @staticmethod
    def translate(state: dict) -> dict | None:
        """State dict of torchvision under our names; None if it is not one."""
        if "classifier.1.weight" not in state:
            return None
        return {key.replace("classifier.1.", "head."): tensor for key, tensor in state.items()}


def efficientnet_b0(num_classes: int) -> StagedEfficientNet:
    import torchvision

    return StagedEfficientNet(torchvision.models.efficientnet_b0(weights=None, num_classes=num_classes))


def efficientnet_b0_narrow(num_classes: int) -> StagedEfficientNet:
    """Half the channels and half the blocks: about the time of resnet18_narrow on a CPU in float32.

    Depthwise convolutions are slow in bfloat16 on a CPU: train it with ``precision="32-true"``.
    """
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    # Expansion, kernel, stride, channels in and out, blocks: table 1 of Tan and Le.
    groups = [
        (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3),
        (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
    ]  # fmt: skip
    scaled = [MBConvConfig(*group, width_mult=0.5, depth_mult=0.5) for group in groups]
    return StagedEfficientNet(EfficientNet(scaled, dropout=0.2, num_classes=num_classes))
