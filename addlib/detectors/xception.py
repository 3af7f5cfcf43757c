"""Xception (Chollet, CVPR 2017), the detector of Rössler et al., "FaceForensics++" (ICCV 2019); timm's layers."""

from torch import Tensor, nn

from .base import Backbone, Detection, pooled


class StagedXception(Backbone):
    """Xception that returns stages, embedding and logits.

    Stages: blocks 1, 2, 11, of either sign before the next block's ReLU, and the exit flow; channels 128, 256, 728, 2048; 31,
    16, 8 and 4 pixels wide at 128. Embedding: mean of the last stage.
    """

    smallest = 7  # else the two unpadded convolutions at the front leave nothing
    marker, renames = "block12.rep.1.conv1.weight", {"fc.": "head.", "last_linear.": "head.", "": "trunk."}

    def __init__(self, num_classes: int):
        super().__init__()
        self.trunk = xception_trunk(3)
        self.head = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Detection:
        self.check(x)
        stages = tuple(stage for (stage,) in xception_stages([self.trunk], [x]))
        embedding = pooled(stages[-1])
        return Detection(stages, embedding, self.head(embedding))

    @classmethod
    def translate(cls, state):
        # The oldest of Cadene's files keep the 1 × 1 kernels as matrices.
        matrices = {key: tensor for key, tensor in state.items() if "pointwise" in key and tensor.ndim == 2}
        return super().translate(state | {key: tensor[..., None, None] for key, tensor in matrices.items()})


def xception_trunk(channels: int) -> nn.Module:
    """timm's Xception for maps of ``channels`` channels, without the classifier."""
    import timm

    return timm.create_model("legacy_xception", num_classes=0, in_chans=channels)


def xception_stages(trunks: list[nn.Module], maps: list[Tensor], mix=None) -> list[list[Tensor]]:
    """Four stages of Xceptions side by side, each the maps of all trunks: after blocks 1, 2, 11 and the exit flow.

    maps: the input of each trunk, (B, channels, H, W). mix: module that changes all maps, by number of the block before it.
    """
    stages = []
    maps = [t.act2(t.bn2(t.conv2(t.act1(t.bn1(t.conv1(x)))))) for t, x in zip(trunks, maps, strict=True)]
    for number in range(1, 13):
        maps = [getattr(t, f"block{number}")(x) for t, x in zip(trunks, maps, strict=True)]
        if mix and str(number) in mix:
            maps = mix[str(number)](*maps)
        if number in (1, 2, 11):
            stages.append(maps)
    return [*stages, [t.act4(t.bn4(t.conv4(t.act3(t.bn3(t.conv3(x)))))) for t, x in zip(trunks, maps, strict=True)]]
