"""F3-Net (Qian et al., "Thinking in Frequency: Face Forgery Detection by Mining Frequency-aware Clues", ECCV 2020).

Two Xceptions look at the frequencies of a crop. One sees the crop taken apart into three frequency bands (frequency-aware
decomposition, FAD), the other the strength of six bands in every small window (local frequency statistics, LFS). After blocks
7 and 12 each takes over what the other found (MixBlock). Written from the paper; what it leaves open is said where it is
decided.
"""

from __future__ import annotations

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
        """(B, 3, H, W) of any float type → float32: half precision is too coarse for the transforms."""
        with torch.autocast(images.device.type, enabled=False):
            return self.filtered(images.to(self.matrix.dtype), self.base + (2 * torch.sigmoid(self.weight) - 1))


class FrequencyDecomposition(Filters):
    """FAD: (B, 3, n, n) → (B, 9, n, n), the crop through each filter of its DCT, back in the image domain, band after band.

    The paper gives the bands as shares of the spectrum: the lowest 1/16, up to 1/8, the rest. i + j below n/√8 and n/2 cuts
    triangles of these areas. The filters begin at the fixed masks, whose bands add up to the crop.
    """

    def __init__(self, size):
        super().__init__(size, (0, size / math.sqrt(8), size / 2, 2 * size))

    def filtered(self, images, filters):
        return idct2(dct2(images, self.matrix)[:, None] * filters[:, None], self.matrix).flatten(1, 2)


class LocalFrequencyStatistics(Filters):
    """LFS: (B, 3, n, n) → (B, 6, m, m), log10 of the filtered DCT magnitudes of every window, summed over it and the colours.

    Windows of 10 × 10, every 2 pixels, six bands of equal width in i + j. Ours: the colours are summed before the logarithm,
    and the image is mirrored by 3 and 4 pixels at its borders. m is then the side of the other stream's first map, and 149 at
    n = 299 as in the paper.
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
    """Cross-attention between two maps of one shape: to each is added what the other shows at places that match.

    One matrix of affinities between the places of the first map and those of the second. Each place of the first map takes
    the mean of the second under a softmax of its row, each place of the second that of the first under one of its column.
    From the paper are the one matrix of attention between the streams and the two sums; the 1 × 1 projections, their width
    (an eighth) and the scale √d are ours, after Vaswani et al., "Attention Is All You Need" (NeurIPS 2017).
    """

    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        for name in ("to_first", "to_second"):
            projection = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
            # A small correction at the start: pre-trained blocks go on seeing maps that they know.
            nn.init.constant_(projection[1].weight, 0.1)
            setattr(self, name, projection)

    def forward(self, first, second):
        """first, second: (B, C, H, W). Returns both, augmented."""
        query, key = self.query(first).flatten(2), self.key(second).flatten(2)
        affinity = (query / math.sqrt(query.shape[1])).mT @ key
        from_second = (second.flatten(2) @ affinity.softmax(2).mT.to(second.dtype)).reshape(first.shape)
        from_first = (first.flatten(2) @ affinity.softmax(1).to(first.dtype)).reshape(second.shape)
        return first + self.to_first(from_second), second + self.to_second(from_first)


class F3Net(Backbone):
    """F3-Net that returns stages, embedding and logits.

    Stages: the maps of both Xceptions, FAD before LFS, concatenated along the channels: 256, 512, 1456 and 4096. Embedding:
    mean of the last stage, before dropout. Public Xception weights start both streams, as in the paper; the kernels of the
    first layer are repeated for each band, so that the FAD stream computes what Xception does as long as its bands add up to
    the crop. The filters, the MixBlocks, the head and the first layer of the LFS stream stay fresh.

    Args:
        num_classes: logits.
        size: height and width n of the crops; the filters of the decomposition are made for it. The paper's is 299.
        dropout: share of the embedding dropped before the classifier, while training.
    """

    smallest = 32  # below that a band or a map of the trunk has next to nothing in it
    fresh = ("fad.", "lfs.", "mix.", "lfs_stream.conv1.")

    def __init__(self, num_classes: int, size: int = 128, dropout: float = 0.2):
        if size < self.smallest:
            raise ValueError(f"size is {size}, expected at least {self.smallest}")
        super().__init__()
        self.size = size
        self.fad = FrequencyDecomposition(size)
        self.lfs = LocalFrequencyStatistics()
        self.fad_stream = xception_trunk(9)
        self.lfs_stream = xception_trunk(LOCAL_BANDS)
        # The statistics are halved in size already. Padded, the maps of both streams are of one size from here on.
        self.lfs_stream.conv1 = nn.Conv2d(LOCAL_BANDS, 32, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.lfs_stream.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.mix = nn.ModuleDict({"7": MixBlock(728), "12": MixBlock(1024)})
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4096, num_classes)

    def forward(self, x: Tensor) -> Detection:
        self.check(x)
        if x.shape[2:] != (self.size, self.size):
            shape = tuple(x.shape[2:])
            raise ValueError(f"crops are {shape}, expected sides of {self.size}; create_detector('f3net', size=...)")
        maps = xception_stages([self.fad_stream, self.lfs_stream], [self.fad(x), self.lfs(x)], self.mix)
        stages = tuple(torch.cat(pair, 1) for pair in maps)
        embedding = pooled(stages[-1])
        return Detection(stages, embedding, self.head(self.dropout(embedding)))

    @classmethod
    def translate(cls, state):
        found = {}
        for key, tensor in (StagedXception.translate(state) or {}).items():
            part, _, rest = key.partition(".")
            if rest == "conv1.weight":
                found["fad_stream.conv1.weight"] = tensor.repeat(1, 3, 1, 1)
            elif part == "trunk":
                found[f"fad_stream.{rest}"] = found[f"lfs_stream.{rest}"] = tensor
        return found or None
