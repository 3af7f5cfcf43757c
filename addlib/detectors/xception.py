"""Xception (Chollet, CVPR 2017), the detector of Rössler et al., "FaceForensics++" (ICCV 2019); timm's layers."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Detection, check_input, pooled

SMALLEST = 7  # side of the smallest crop that the two unpadded convolutions at the front leave anything of


class StagedXception(nn.Module):
    """Xception that returns stages, embedding and logits.

    Input (B, 3, H, W), normalised floats, at least 7 × 7. Stages: block 1 (128 channels at about 1/4 of the input's sides),
    block 2 (256 at 1/8), block 11 (728 at 1/16) and the end of the exit flow (2048 at 1/32); 31, 16, 8 and 4 pixels wide at
    128. The first three are sums of the residual blocks, of either sign: the ReLU belongs to the next block. Embedding: mean
    of the last stage.
    """

    public = "Xception of timm (legacy_xception) or of Cadene's pretrained-models"
    fresh = ()

    def __init__(self, num_classes: int):
        super().__init__()
        self.trunk = xception_trunk(3)
        self.head = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Detection:
        check_input("xception", x, smallest=SMALLEST)
        x = stem(self.trunk, x)
        stages = []
        for first, last in ((1, 1), (2, 2), (3, 11)):
            x = blocks(self.trunk, x, first, last)
            stages.append(x)
        stages.append(exit_flow(self.trunk, blocks(self.trunk, x, 12, 12)))
        embedding = pooled(stages[-1])
        return Detection(tuple(stages), embedding, self.head(embedding))

    @staticmethod
    def translate(state: dict) -> dict | None:
        """State dict of timm or Cadene under our names; None if it is not one."""
        trunk, head = split_public(state)
        return trunk and {f"trunk.{key}": tensor for key, tensor in trunk.items()} | head


def xception_trunk(channels: int) -> nn.Module:
    """timm's Xception for maps of ``channels`` channels, without the classifier."""
    import timm

    return timm.create_model("legacy_xception", num_classes=0, in_chans=channels)


def stem(trunk: nn.Module, x: Tensor) -> Tensor:
    """The two convolutions before block 1: (B, 3, H, W) → (B, 64, about H/2, W/2)."""
    x = trunk.act1(trunk.bn1(trunk.conv1(x)))
    return trunk.act2(trunk.bn2(trunk.conv2(x)))


def blocks(trunk: nn.Module, x: Tensor, first: int, last: int) -> Tensor:
    """Residual blocks ``first`` to ``last``, both included, of 1 to 12. 1, 2, 3 and 12 halve the sides."""
    for number in range(first, last + 1):
        x = getattr(trunk, f"block{number}")(x)
    return x


def exit_flow(trunk: nn.Module, x: Tensor) -> Tensor:
    """The two separable convolutions after block 12: (B, 1024, H, W) → (B, 2048, H, W)."""
    x = trunk.act3(trunk.bn3(trunk.conv3(x)))
    return trunk.act4(trunk.bn4(trunk.conv4(x)))


def split_public(state: dict) -> tuple[dict | None, dict | None]:
    """(trunk, head) of a public Xception state dict under timm's and our names; (None, None) if it is not one.

    Cadene's files call the classifier ``last_linear``, and the oldest keep the 1 × 1 kernels as matrices.
    """
    if "block12.rep.1.conv1.weight" not in state:
        return None, None
    trunk, head = {}, {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        if first in ("fc", "last_linear"):
            head[f"head.{rest}"] = tensor
        else:
            trunk[key] = tensor[..., None, None] if "pointwise" in key and tensor.ndim == 2 else tensor
    return trunk, head
