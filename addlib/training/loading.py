"""An epoch of batches for Lightning, drawn from a seed: the same for pairs on disk and in memory, on one device or on several."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from addlib.faceforensics import FacePairs
from addlib.faceforensics.drawing import Draw, batches
from addlib.faceforensics.resident import ResidentPairs


def load_pairs(crops, manipulation, quality, split, *, device="cpu") -> ResidentPairs | FacePairs:
    """The pairs of a split in the memory of the device if they fit, else read from disk as they are needed."""
    try:
        return ResidentPairs(crops, manipulation, quality, split, device=device)
    except MemoryError:
        return FacePairs(crops, manipulation, quality, split)


class EpochLoader:
    """Batches (raw, compressed, labels) of the pairs, mirrored and normalised; iterating again gives the next epoch.

    Args:
        pairs: ResidentPairs or FacePairs.
        batch_size: pairs in a batch of one device.
        seed, flip, normalise: as ``ResidentPairs.batches``.
        training: shuffled and complete batches only, else all pairs in order.
        rank, world: which device of how many; each gets its own share of every epoch, in training of equal length.
        workers: processes that read pairs from disk.

    ``epoch`` is the number of the epoch that the next iteration draws; the task sets it, so that a resumed training
    draws what the interrupted one would have drawn.

    Raises:
        ValueError: fewer pairs than one batch on every device.
    """

    def __init__(
        self, pairs, batch_size, *, seed=0, flip=0.0, normalise=(0.5, 0.5), training=True, rank=0, world=1, workers=0
    ):
        self.pairs, self.batch_size, self.seed, self.flip = pairs, batch_size, seed, flip
        self.normalise, self.training, self.rank, self.world, self.workers = normalise, training, rank, world, workers
        self.epoch = 0
        if training and len(self) == 0:
            raise ValueError(
                f"{len(pairs)} training pairs make no batch of {batch_size} on each of {world} devices; "
                "choose a smaller batch_size, or prepare more crops"
            )

    def __len__(self) -> int:
        if self.training:
            return len(self.pairs) // (self.batch_size * self.world)
        return math.ceil(len(range(self.rank, len(self.pairs), self.world)) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        # A generator, so that ``epoch`` is read at the first batch: Lightning asks for the iterator before it tells the epoch.
        draw = Draw.of(len(self.pairs), seed=self.seed, epoch=self.epoch, shuffle=self.training, flip=self.flip)
        share = draw.order[self.rank :: self.world]
        draw = Draw(share[: len(self) * self.batch_size], draw.mirrored)
        if isinstance(self.pairs, ResidentPairs):
            yield from self.pairs.batches(self.batch_size, draw=draw, normalise=self.normalise)
        else:
            yield from batches(self.pairs, self.batch_size, draw=draw, normalise=self.normalise, workers=self.workers)
