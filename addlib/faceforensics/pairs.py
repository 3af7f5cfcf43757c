"""Pairs of the same crop, raw and compressed, as one data set: on disk or whole on a device, with seeded batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .manifest import read_manifest
from .tree import reals_of

RAW, COMPRESSED = 0, 1


class FacePairs(Dataset):
    """Real crops and those of one manipulation, each raw and in one quality.

    An item is ``(raw, compressed, label)``: uint8 (3, S, S) tensors and 1 for a fake, 0 for a real. Videos that lack
    crops in either quality are left out.

    Args:
        out: a folder that ``prepare`` wrote.
        manipulation: such as "NeuralTextures".
        quality: "c23" or "c40"; or "raw": both crops are then the same, and held once.
        split: "train", "val" or "test".
        device: None reads crops from disk when they are asked for; "cpu", "cuda", … holds all of them there as uint8.
            64 crops of 128×128 from each of 1,440 videos take 9 GB for both sides together.
        sides: which sides ``device`` holds; the other one stays on disk.

    Attributes:
        videos, frames, labels: of each item, in order: "Deepfakes/071_054", number of the crop in its video, (N,) int64.
        left_out: (manipulation, video, reason) of every video that was left out.
        size: S, in pixels.
        nbytes: of all crops as they are held, or would be.

    Raises:
        ValueError: nothing fits; the message says what there is. MemoryError, RuntimeError: the device is too small.
    """

    def __init__(
        self, out, manipulation: str, quality: str, split: str, *, device=None, sides=("raw", "compressed")
    ) -> None:
        self.out = Path(out)
        table = read_manifest(out)
        for column, value in (("manipulation", manipulation), ("quality", quality), ("split", split)):
            if value not in set(table[column]):
                raise ValueError(f"no {column} {value!r} in {out}; there are {sorted(set(table[column]) - {''})}")
        table = table[(table["split"] == split) & table["manipulation"].isin([reals_of(manipulation), manipulation])]
        both = table[table["quality"] == "raw"].merge(
            table[table["quality"] == quality], on=["manipulation", "video"], suffixes=("", "_compressed"), how="left"
        )
        usable = (
            (both["status"] != "failed")
            & both["status_compressed"].isin(["ok", "short"])
            & (both["crops"] == both["crops_compressed"])
        )
        left = both[~usable]
        self.left_out = [(r.manipulation, r.video, r.reason or str(r.reason_compressed)) for r in left.itertuples()]
        both = both[usable].sort_values(["label", "video"])
        if both.empty:
            raise ValueError(
                f"no {manipulation} crops in both raw and {quality} for {split}; {len(left)} videos were left out: "
                f"{self.left_out[:3]}"
            )
        self._files = [both["path"].tolist(), both["path_compressed"].tolist()]
        counts = both["crops"].to_numpy()
        self._file = np.repeat(np.arange(len(both)), counts)
        self.frames = np.concatenate([np.arange(count) for count in counts])
        self.labels = torch.from_numpy(np.repeat(both["label"].to_numpy(), counts))
        self.videos = np.repeat((both["manipulation"] + "/" + both["video"]).to_numpy(dtype=object), counts)
        self.size = _mapped(self.out / self._files[RAW][0]).shape[1]
        # The sides that are files of their own: one if the quality is raw.
        self._own = (RAW, RAW) if quality == "raw" else (RAW, COMPRESSED)
        held = {own for own, name in zip(self._own, ("raw", "compressed"), strict=True) if name in sides}
        self.nbytes = len(held) * len(self) * self.size**2 * 3
        self.device = None if device is None else torch.device(device)
        self._held = {}
        if device is not None:
            # One side after the other, so that the host never needs room for both.
            for side in sorted(held):
                self._held[side] = self._whole(side).to(self.device)
        self._labels = self.labels.to(self.device or "cpu")

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        raw, compressed = (self._crop(side, index).permute(2, 0, 1).contiguous() for side in self._own)
        return raw, compressed, int(self.labels[index])

    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        """All pairs at once: raw and compressed, uint8 (N, 3, S, S) tensors, and labels (N,)."""
        raw, compressed = (self._whole(side).permute(0, 3, 1, 2) for side in self._own)
        return raw, compressed, self.labels.clone()

    def batches(
        self, batch_size: int, *, seed: int = 0, epoch: int = 0, shuffle: bool = True, flip: float = 0.0,
        normalise=None, drop_last: bool = False, rank: int = 0, world: int = 1, raw: bool = True, workers: int = 0,
    ) -> Iterator[tuple[Tensor | None, Tensor, Tensor]]:  # fmt: skip
        """Yield (raw, compressed, labels) of one epoch, the same from disk and from any device.

        Args:
            batch_size: pairs in a batch.
            seed, epoch: both together decide order and mirroring.
            flip: probability that a pair is mirrored left to right, both crops or neither.
            normalise: (mean, std) of values in 0 … 1, numbers or one a channel, see :func:`normalised`; None keeps uint8.
            drop_last: complete batches only, and as many for every rank.
            rank, world: which process of how many; each gets its own share of the epoch.
            raw: False yields None for the raw side, which then costs nothing.
            workers: processes that read from disk.

        Yields:
            Twice (B, 3, S, S), channels last in memory, and labels (B,) int64, where the crops are held, else on the CPU.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        # Drawn on the CPU, so that every device gets the same.
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        mirrored = (torch.rand(len(self), generator=generator) < flip) * torch.tensor(255, dtype=torch.uint8)
        order = order[rank::world]
        if drop_last:
            order = order[: len(self) // (batch_size * world) * batch_size]
        sides = self._own if raw else self._own[COMPRESSED:]
        where = self.device or torch.device("cpu")
        if normalise is not None:
            normalise = tuple(torch.tensor(v, dtype=torch.float32, device=where).view(-1, 1, 1) for v in normalise)
        pieces = order.split(batch_size) if len(order) else ()
        if set(sides) <= set(self._held):
            # Sent once an epoch: what is sent in a step waits for the device.
            order, mirrored = order.to(where), mirrored.to(where)
            pieces = order.split(batch_size) if len(order) else ()
            gathered = ([self._gather(side, piece) for side in dict.fromkeys(sides)] for piece in pieces)
        else:
            reader = _Reader(self, pieces, tuple(dict.fromkeys(sides)))
            gathered = DataLoader(reader, batch_size=None, num_workers=workers)
        for piece, found in zip(pieces, gathered, strict=True):
            chosen = mirrored[piece].to(where).view(-1, 1, 1, 1)
            found = [side.to(where, non_blocking=True) for side in found]
            # Chosen by its bits: torch.where takes ten times as long on bytes.
            found = [(side ^ ((side ^ side.flip(2)) & chosen)).permute(0, 3, 1, 2) for side in found]
            if normalise is not None:
                found = [normalised(side, *normalise) for side in found]
            yield found[0] if raw else None, found[-1], self._labels[piece]

    def _crop(self, side: int, index: int) -> Tensor:
        if side in self._held:
            return self._held[side][index]
        return _mapped(self.out / self._files[side][self._file[index]])[int(self.frames[index])]

    def _gather(self, side: int, indices: Tensor) -> Tensor:
        """Crops of a batch, uint8 (B, S, S, 3)."""
        if side in self._held:
            return self._held[side].index_select(0, indices.to(self.device))
        return torch.stack([self._crop(side, index) for index in indices.tolist()])

    def _whole(self, side: int) -> Tensor:
        """All crops of one side, uint8 (N, S, S, 3), read file by file into one tensor."""
        if side in self._held:
            return self._held[side]
        crops, start = torch.empty((len(self), self.size, self.size, 3), dtype=torch.uint8), 0
        for path in self._files[side]:
            part = torch.from_numpy(np.load(self.out / path))
            crops[start : start + len(part)] = part
            start += len(part)
        return crops


class _Reader(Dataset):
    """Whole batches from disk, for the processes of a DataLoader."""

    def __init__(self, pairs, pieces, sides):
        self.pairs, self.pieces, self.sides = pairs, pieces, sides

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, number):
        return [self.pairs._gather(side, self.pieces[number]) for side in self.sides]


def normalised(crops: Tensor, mean, std) -> Tensor:
    """(crops / 255 - mean) / std in float32, of uint8 crops; mean and std are numbers or broadcastable tensors."""
    return crops.to(torch.float32).div_(255).sub_(mean).div_(std)


def _mapped(path: Path) -> Tensor:
    """The crops of a file, (N, S, S, 3), mapped into memory: torch keeps no file open, where NumPy keeps one a map."""
    status = os.stat(path)
    return _map(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1 << 16)
def _map(path: str, changed: int, size: int) -> Tensor:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else (None, True, None)
        start = file.tell()
    if fortran or dtype != np.uint8 or size != start + int(np.prod(shape)):
        raise ValueError(f"{path} is not as prepare wrote it; see what addlib verify says, and prepare again")
    return torch.from_file(path, shared=False, size=size, dtype=torch.uint8)[start:].view(shape)
