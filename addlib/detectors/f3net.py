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

from .base import Detection, check_input, pooled
from .dct import band_masks, dct2, dct_matrix, idct2
from .xception import blocks, exit_flow, split_public, stem, xception_trunk

SMALLEST = 32  # input side below which a band or a map of the trunk has next to nothing in it
WINDOW, STRIDE, LOCAL_BANDS = 10, 2, 6  # of the paper
FLOOR = 1e-3  # added to the energies before the logarithm; an 8-bit grey step is 8e-3 in inputs of -1 to 1
MIXED_AFTER = (7, 12)


def learned_masks(base: Tensor, weight: Tensor) -> Tensor:
    """Band filters of the paper: the fixed masks plus 2σ(w) - 1, which lies between -1 and 1. Shapes alike."""
    return base + (2 * torch.sigmoid(weight) - 1)


def frequency_decomposition(images: Tensor, masks: Tensor, matrix: Tensor) -> Tensor:
    """FAD: images through each band filter of the whole image's DCT, back in the image domain.

    images: (B, C, n, n). masks: (bands, n, n). matrix: ``dct_matrix(n)``. Returns (B, bands·C, n, n), band after band.
    With masks that add up to 1 the bands add up to the images.
    """
    return idct2(dct2(images, matrix)[:, None] * masks[:, None], matrix).flatten(1, 2)


def local_statistics(images: Tensor, masks: Tensor, matrix: Tensor, stride: int = STRIDE) -> Tensor:
    """LFS: log10 of the filtered DCT magnitudes of every window, summed over window and colours.

    images: (B, C, H, W), padded as wanted. masks: (bands, k, k). matrix: ``dct_matrix(k)``, whose size is the window's.
    Returns (B, bands, (H - k) // stride + 1, (W - k) // stride + 1). A window without energy in a band gives log10 of FLOOR.
    """
    size, (count, channels) = len(matrix), images.shape[:2]
    # The two-dimensional basis as kernels: one convolution gives all k·k coefficients of all windows.
    kernels = torch.einsum("ux,vy->uvxy", matrix, matrix).reshape(size * size, 1, size, size)
    spectra = nn.functional.conv2d(images.reshape(count * channels, 1, *images.shape[2:]), kernels, stride=stride)
    magnitudes = spectra.abs().reshape(count, channels, *spectra.shape[1:]).sum(1)
    # |D·h| = |D|·|h|, so the sum over a band is a product with the magnitudes of its filter.
    energies = nn.functional.conv2d(magnitudes, masks.abs().reshape(len(masks), size * size, 1, 1))
    return torch.log10(energies + FLOOR)


class FrequencyDecomposition(nn.Module):
    """:func:`frequency_decomposition` with learnable filters: (B, 3, n, n) → (B, 9, n, n), float32.

    The paper gives the bands as shares of the spectrum: the lowest 1/16, up to 1/8, the rest. i + j below n/√8 and n/2 cuts
    triangles of these areas. The filters begin at the fixed masks.
    """

    def __init__(self, size):
        super().__init__()
        edges = (0, size / math.sqrt(8), size / 2, 2 * size)
        self.register_buffer("base", band_masks(size, edges).float(), persistent=False)
        self.register_buffer("matrix", dct_matrix(size).float(), persistent=False)
        self.weight = nn.Parameter(torch.zeros_like(self.base))

    def forward(self, images):
        with torch.autocast(images.device.type, enabled=False):
            return frequency_decomposition(
                images.to(self.matrix.dtype), learned_masks(self.base, self.weight), self.matrix
            )


class LocalFrequencyStatistics(nn.Module):
    """:func:`local_statistics` with learnable filters: (B, 3, n, n) → (B, 6, m, m), float32.

    Windows of 10 × 10, every 2 pixels, six bands of equal width in i + j. Ours: the colours are summed before the logarithm,
    and the image is mirrored by 3 and 4 pixels at its borders. m is then the side of the other stream's first map, and 149 at
    n = 299 as in the paper.
    """

    def __init__(self):
        super().__init__()
        edges = torch.linspace(0, 2 * WINDOW - 1, LOCAL_BANDS + 1, dtype=torch.float64)
        self.register_buffer("base", band_masks(WINDOW, edges).float(), persistent=False)
        self.register_buffer("matrix", dct_matrix(WINDOW).float(), persistent=False)
        # Not zeros: outside a band the magnitude of the filter would have no gradient.
        self.weight = nn.Parameter(1e-3 * torch.randn_like(self.base))

    def forward(self, images):
        with torch.autocast(images.device.type, enabled=False):
            images = nn.functional.pad(images.to(self.matrix.dtype), (3, 4, 3, 4), mode="reflect")
            return local_statistics(images, learned_masks(self.base, self.weight), self.matrix)


class MixBlock(nn.Module):
    """Cross-attention between two maps of one shape: to each is added what the other shows at places that match.

    One matrix of affinities between the H·W places of the first map and those of the second. Each place of the first map takes
    the mean of the second under a softmax of its row, each place of the second that of the first under one of its column.
    From the paper are the one matrix of attention between the streams and the two sums; the 1 × 1 projections, their width
    (an eighth) and the scale √d are ours, after Vaswani et al., "Attention Is All You Need" (NeurIPS 2017).
    """

    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.to_first = _projection(channels)
        self.to_second = _projection(channels)

    def forward(self, first, second):
        """first, second: (B, C, H, W). Returns both, augmented."""
        query, key = self.query(first).flatten(2), self.key(second).flatten(2)
        affinity = (query / math.sqrt(query.shape[1])).mT @ key
        from_second = second.flatten(2) @ affinity.softmax(2).mT.to(second.dtype)
        from_first = first.flatten(2) @ affinity.softmax(1).to(first.dtype)
        return (
            first + self.to_first(from_second.reshape(first.shape)),
            second + self.to_second(from_first.reshape(second.shape)),
        )


def _projection(channels):
    projection = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
    # A small correction at the start: pre-trained blocks go on seeing maps that they know.
    nn.init.constant_(projection[1].weight, 0.1)
    return projection


class F3Net(nn.Module):
    """F3-Net that returns stages, embedding and logits.

    Args:
        num_classes: logits.
        size: height and width n of the crops; the filters of the decomposition are made for it. The paper's is 299.
        dropout: share of the embedding dropped before the classifier, while training.

    Input (B, 3, n, n), normalised floats. Stages: the maps of both Xceptions, FAD before LFS, concatenated along the channels:
    after block 1 (256 channels at about 1/4 of the input's sides), block 2 (512 at 1/8), block 11 (1456 at 1/16) and the exit
    flow (4096 at 1/32). Embedding: mean of the last stage, before dropout.

    Public Xception weights start both streams, as in the paper: the kernels of the first layer are repeated for each band, so
    that the FAD stream computes what Xception does as long as its bands add up to the image. The filters, the MixBlocks, the
    head and the first layer of the LFS stream stay fresh.
    """

    public = "Xception of timm (legacy_xception) or of Cadene's pretrained-models"
    fresh = ("fad.", "lfs.", "mix.", "lfs_stream.conv1.")

    def __init__(self, num_classes: int, size: int = 128, dropout: float = 0.2):
        if size < SMALLEST:
            raise ValueError(f"size is {size}, expected at least {SMALLEST}")
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
        check_input("f3net", x, size=self.size)
        first = stem(self.fad_stream, self.fad(x))
        second = stem(self.lfs_stream, self.lfs(x))
        stages = []
        for number in range(1, 13):
            first, second = (
                blocks(self.fad_stream, first, number, number),
                blocks(self.lfs_stream, second, number, number),
            )
            if number in MIXED_AFTER:
                first, second = self.mix[str(number)](first, second)
            if number in (1, 2, 11):
                stages.append(torch.cat([first, second], 1))
        stages.append(torch.cat([exit_flow(self.fad_stream, first), exit_flow(self.lfs_stream, second)], 1))
        embedding = pooled(stages[-1])
        return Detection(tuple(stages), embedding, self.head(self.dropout(embedding)))

    @staticmethod
    def translate(state: dict) -> dict | None:
        """Public Xception state dict for both streams; None if it is not one."""
        trunk, _ = split_public(state)
        if trunk is None:
            return None
        found = {}
        for key, tensor in trunk.items():
            if key == "conv1.weight":
                found[f"fad_stream.{key}"] = tensor.repeat(1, 3, 1, 1)
            else:
                found[f"fad_stream.{key}"] = found[f"lfs_stream.{key}"] = tensor
        return found
