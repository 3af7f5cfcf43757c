"""Shuffled, mirrored, normalised batches of pairs, drawn from a seed. The same batches whether crops are on disk or on a device."""

from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Subset


@dataclass(frozen=True)
class Draw:
    """What chance decides in one epoch over n pairs: ``order`` of the indices, (M,), and which are ``mirrored``, (n,) bool."""

    order: torch.Tensor
    mirrored: torch.Tensor

    @classmethod
    def of(cls, count, *, seed=0, epoch=0, shuffle=True, flip=0.0, generator=None):
        """Draw on the CPU, so that every device gets the same.

        count: pairs. seed, epoch: whole numbers; both together decide. generator: instead of them. flip: probability.
        """
        generator = generator or torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        return cls(order, torch.rand(count, generator=generator) < flip)

    def batches(self, size, drop_last=False):
        """The order in pieces of ``size``, the last one shorter or dropped."""
        if size < 1:
            raise ValueError(f"batch_size is {size}; expected 1 or more")
        pieces = self.order.split(size)
        return pieces[:-1] if drop_last and len(pieces) and len(pieces[-1]) < size else pieces


def finish(crops, mirrored, normalise=None, dtype=torch.float32):
    """Mirror some crops of a batch left to right and scale their values.

    crops: (B, 3, S, S) uint8. mirrored: (B,) bool, on any device. normalise: None keeps uint8; (mean, std), numbers or one a
    channel in units of 0 … 1, gives (crops/255 - mean)/std in ``dtype``.
    """
    crops = torch.where(mirrored.to(crops.device).view(-1, 1, 1, 1), crops.flip(-1), crops)
    if normalise is None:
        return crops
    mean, std = (torch.as_tensor(value, dtype=dtype, device=crops.device).view(-1, 1, 1) for value in normalise)
    return crops.to(dtype).div_(255).sub_(mean).div_(std)


def batches(
    data, batch_size, *, seed=0, epoch=0, generator=None, shuffle=True, flip=0.0, normalise=None, drop_last=False, workers=0,
    device="cpu", draw=None,
):  # fmt: skip
    """Yield (raw, compressed, labels) of one epoch of FacePairs through a DataLoader.

    data: FacePairs (with flip=0, mirroring is done here). batch_size: pairs. The rest: see ``Draw.of`` and ``finish``.
    workers: processes that read. device: where batches go. draw: a Draw to use instead of a new one.
    Yields (B, 3, S, S) twice and labels (B,) int64. ``ResidentPairs.batches`` gives the same for the same seed.
    """
    draw = draw or Draw.of(len(data), seed=seed, epoch=epoch, shuffle=shuffle, flip=flip, generator=generator)
    pieces = draw.batches(batch_size, drop_last)
    order = draw.order[: sum(len(piece) for piece in pieces)]
    loader = DataLoader(
        Subset(data, order.tolist()),
        batch_size=batch_size,
        num_workers=workers,
        pin_memory=torch.device(device).type == "cuda",
    )
    for piece, (raw, compressed, labels) in zip(pieces, loader, strict=True):
        mirrored = draw.mirrored[piece]
        raw, compressed, labels = (part.to(device, non_blocking=True) for part in (raw, compressed, labels))
        yield finish(raw, mirrored, normalise), finish(compressed, mirrored, normalise), labels
