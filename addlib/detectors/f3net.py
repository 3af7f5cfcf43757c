"""F3-Net (Qian et al., "Thinking in Frequency: Face Forgery Detection by Mining Frequency-aware Clues", ECCV 2020).

One Xception sees the crop taken apart into three frequency bands (frequency-aware decomposition, FAD), another the strength
of six bands in every small window (local frequency statistics, LFS). After blocks 7 and 12 each takes over what the other
found (MixBlock). Written from the paper; "ours" marks what it leaves open.
"""

import math

import torch
from torch import Tensor, nn

from .base import Backbone, Detection, pooled
from .dct import band_masks, dct2, dct_matrix, idct2
from .xception import StagedXception, xception_stages, xception_trunk

WINDOW, STRIDE, LOCAL_BANDS = 10, 2, 6  # of the paper
FLOOR = 1e-3  # added to the energies before the logarithm; an 8-bit grey step is 8e-3 in inputs of -1 to 1


class Filters(nn.Module):
    """Learned filters (bands, n, n) of DCT coefficients: fixed masks of bands plus 2σ(w) - 1, between -1 and 1."""

    def __init__(self, size, edges):
        super().__init__()
        self.register_buffer("base", band_masks(size, edges).float(), persistent=False)
        self.register_buffer("matrix", dct_matrix(size).float(), persistent=False)
        self.weight = nn.Parameter(torch.zeros_like(self.base))

    def forward(self, images):
        """(B, 3, H, W) → float32, also under autocast."""
        with torch.autocast(images.device.type, enabled=False):
            return self.filtered(images.to(self.matrix.dtype), self.base + (2 * torch.sigmoid(self.weight) - 1))


class FrequencyDecomposition(Filters):
    """FAD: (B, 3, n, n) → (B, 9, n, n), the crop through each filter of its DCT, back in the image domain, band after band.

    The bands are the lowest 1/16 of the spectrum, up to 1/8, and the rest: i + j below n/√8, below n/2, and above.
    """

    def __init__(self, size):
        super().__init__(size, (0, size / math.sqrt(8), size / 2, 2 * size))

    def filtered(self, images, filters):
        return idct2(dct2(images, self.matrix)[:, None] * filters[:, None], self.matrix).flatten(1, 2)


class LocalFrequencyStatistics(Filters):
    """LFS: (B, 3, n, n) → (B, 6, m, m), log10 of the filtered DCT magnitudes of every window, summed over it and the colours.

    Six bands of equal width in i + j. Ours: colours are summed before the logarithm, and the crop is mirrored by 3 and 4
    pixels at its borders, so that m is the side of the other stream's first map, 149 at n = 299 as in the paper.
    """

    def __init__(self):
        super().__init__(WINDOW, torch.linspace(0, 2 * WINDOW - 1, LOCAL_BANDS + 1, dtype=torch.float64))
        # Not zeros: outside a band the magnitude of the filter would have no gradient.
        self.weight.data = 1e-3 * torch.randn_like(self.base)

    def filtered(self, images, filters):
        images = nn.functional.pad(images, (3, 4, 3, 4), mode="reflect")
        # The two-dimensional basis as kernels: one convolution gives all coefficients of all windows.
        kernels = torch.einsum("ux,vy->uvxy", self.matrix, self.matrix).flatten(0, 1)[:, None]
        spectra = nn.functional.conv2d(images.flatten(0, 1)[:, None], kernels, stride=STRIDE)
        magnitudes = spectra.abs().unflatten(0, images.shape[:2]).sum(1)
        # |D·h| = |D|·|h|, so the sum over a band is a product with the magnitudes of its filter.
        energies = nn.functional.conv2d(magnitudes, filters.abs().flatten(1)[..., None, None])
        return torch.log10(energies + FLOOR)


class MixBlock(nn.Module):
    """Cross-attention: to each of two maps (B, C, H, W) is added what the other shows at places that match.

    The rows of one matrix of affinities weigh the second map for the first, its columns the first for the second. The 1 × 1
    projections, their width (an eighth) and the scale √d are ours, after Vaswani et al. (NeurIPS 2017).
    """

    def __init__(self, channels):
        super().__init__()
        self.query, self.key = (nn.Conv2d(channels, channels // 8, 1) for _ in range(2))
        for name in ("to_first", "to_second"):
            norm = nn.BatchNorm2d(channels)
            nn.init.constant_(norm.weight, 0.1)  # small at the start: pre-trained blocks see maps that they know
            self.add_module(name, nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm))

    def forward(self, first, second):
        query, key = self.query(first).flatten(2), self.key(second).flatten(2)
        affinity = (query / math.sqrt(query.shape[1])).mT @ key
        from_second = (second.flatten(2) @ affinity.softmax(2).mT.to(second.dtype)).reshape(first.shape)
        from_first = (first.flatten(2) @ affinity.softmax(1).to(first.dtype)).reshape(second.shape)
        return first + self.to_first(from_second), second + self.to_second(from_first)


class F3Net(Backbone):
    """F3-Net that returns stages, embedding and logits.

    Stages: the maps of both Xceptions, concatenated to 256, 512, 1456 and 4096 channels. Embedding: mean of the last stage.
    The filters are made for crops of ``size``, the paper's is 299. Public Xception weights start both streams, as in the
    paper; the kernels of the first layer are repeated for each band, so that the FAD stream begins as Xception.
    """

    smallest = 32  # below that a band or a map of the trunk has next to nothing in it
    fresh = ("fad.", "lfs.", "mix.", "lfs_stream.conv1.")

    def __init__(self, num_classes: int, size: int = 128, dropout: float = 0.2):
        super().__init__()
        self.size = size
        self.fad, self.lfs = FrequencyDecomposition(size), LocalFrequencyStatistics()
        self.fad_stream, self.lfs_stream = xception_trunk(9), xception_trunk(LOCAL_BANDS)
        # The statistics are halved in size already. Padded, the maps of both streams are of one size from here on.
        self.lfs_stream.conv1 = nn.Conv2d(LOCAL_BANDS, 32, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.lfs_stream.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.mix = nn.ModuleDict({"7": MixBlock(728), "12": MixBlock(1024)})
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(4096, num_classes)

    def forward(self, x: Tensor) -> Detection:
        self.check(x)
        if (sides := tuple(x.shape[2:])) != (self.size, self.size):
            raise ValueError(f"crops are {sides}, expected sides of {self.size}; create_detector('f3net', size=...)")
        maps = xception_stages([self.fad_stream, self.lfs_stream], [self.fad(x), self.lfs(x)], self.mix)
        stages = tuple(torch.cat(pair, 1) for pair in maps)
        embedding = pooled(stages[-1])
        return Detection(stages, embedding, self.head(self.dropout(embedding)))

    @classmethod
    def translate(cls, state):
        found = StagedXception.translate(state) or {}
        trunk = {key[6:]: tensor for key, tensor in found.items() if key.startswith("trunk.")}
        both = {f"{name}_stream.{key}": tensor for key, tensor in trunk.items() for name in ("fad", "lfs")}
        return both and both | {"fad_stream.conv1.weight": both.pop("lfs_stream.conv1.weight").repeat(1, 3, 1, 1)}
