"""Pairs of the same crop, raw and compressed, as one data set: on disk or whole on a device, with seeded batches."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .manifest import read_manifest
from .tree import reals_of, several

RAW, COMPRESSED = 0, 1


class FacePairs(Dataset):
    """Real crops and those of one manipulation, each raw and in one quality; videos that lack crops in either are left out.

    An item is ``(raw, compressed, label)``: uint8 (3, S, S) tensors and 1 for a fake, 0 for a real.

    Args:
        out: a folder that ``prepare`` wrote.
        manipulation, quality, split: such as "NeuralTextures", "c40", "train". Of "raw" both crops are the same, held once.
        device: None reads crops from disk when they are asked for; else see :meth:`hold`.
        sides: what is held; the other side stays on disk.
        videos: only these, by their names as below; None: all.

    Attributes:
        videos, frames, labels: of each item: "Deepfakes/071_054", number of the crop in its video, (N,) int64.
        left_out: (manipulation, video, reason) of every video that was left out.
        size: S, in pixels.
        nbytes: of the crops that are held, or would be.

    Raises ValueError where nothing fits, with what there is; MemoryError or RuntimeError if the device is too small.
    """

    def __init__(self, out, manipulation: str, quality: str, split: str, *, device=None, sides=("raw", "compressed"), videos=None):
        self.out, table = Path(out).absolute(), read_manifest(out)  # the working directory may change
        for column, value in (("manipulation", manipulation), ("quality", quality), ("split", split)):
            if value not in set(table[column]):
                raise ValueError(f"no {column} {value!r} in {out}; there are {sorted(set(table[column]) - {''})}")
        table = table[(table["split"] == split) & table["manipulation"].isin([reals_of(manipulation), manipulation])]
        table, other = table[table["quality"] == "raw"], table[table["quality"] == quality]
        both = table.merge(other, on=["manipulation", "video"], suffixes=("", "_compressed"), how="left")
        usable = (both["crops"] > 0) & (both["crops"] == both["crops_compressed"])
        left, both = both[~usable], both[usable].sort_values(["label", "video"])
        self.left_out = [(r.manipulation, r.video, r.reason or str(r.reason_compressed)) for r in left.itertuples()]
        if both.empty:
            left = f"{len(left)} videos were left out: {self.left_out[:3]}"
            raise ValueError(f"no {manipulation} crops in both raw and {quality} for {split}; {left}")
        if videos is not None:
            names = both["manipulation"] + "/" + both["video"]
            if unknown := sorted(set(videos) - set(names)):
                raise ValueError(f"no videos {unknown[:3]} in this split; there are such as {names.iloc[0]!r}")
            both = both[names.isin(videos)]
        counts = both["crops"].to_numpy()
        self.videos = np.repeat((both["manipulation"] + "/" + both["video"]).to_numpy(dtype=object), counts)
        self.frames = np.concatenate([np.arange(count) for count in counts])
        self.labels = self._labels = torch.from_numpy(np.repeat(both["label"].to_numpy(), counts))
        self._files = [both["path"].tolist(), both["path_compressed"].tolist()]
        self._file = np.repeat(np.arange(len(both)), counts)
        self.size = _mapped(self.out / self._files[RAW][0]).shape[1]
        # The sides that are files of their own: one if the quality is raw.
        self._own = (RAW, RAW) if quality == "raw" else (RAW, COMPRESSED)
        known = ("raw", "compressed")
        self._sides = sorted({self._own[known.index(name)] for name in several("sides", sides, known)})
        for path, count in [each for side in self._sides for each in zip(self._files[side], counts, strict=True)]:
            if (there := len(_mapped(self.out / path))) != count:
                said = f"{path} holds {there} crops, {self.out}/manifest.csv says {count}"
                raise ValueError(f"{said}: a preparation with other settings was interrupted; run addlib prepare again")
        self.nbytes = len(self._sides) * len(self) * self.size**2 * 3
        self._held: dict[int, Tensor] = {}
        self.hold(device)

    def hold(self, device) -> FacePairs:
        """Hold the crops on a device, as uint8: 64 of 128×128 from each of 1,440 videos, both sides, take 9 GB. Returns self.

        None leaves them on disk.
        """
        # One side after the other, so that the host never needs room for both.
        self._held = {} if device is None else {side: self._whole(side).to(device) for side in self._sides}
        self.device = None if device is None else torch.device(device)
        self._labels = self.labels.to(self.device or "cpu")
        return self

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        found = self._gather(self._own, torch.tensor([range(len(self))[index]]))
        return *(crops[0].permute(2, 0, 1).contiguous() for crops in found), int(self.labels[index])

    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        """All pairs at once: raw and compressed, uint8 (N, 3, S, S) tensors, and labels (N,)."""
        both = (self._whole(side).clone() if side in self._held else self._whole(side) for side in self._own)
        return *(crops.permute(0, 3, 1, 2) for crops in both), self.labels.clone()

    def batches(
        self, batch_size: int, *, seed: int = 0, epoch: int = 0, shuffle: bool = True, flip: float = 0.0,
        drop_last: bool = False, rank: int = 0, world: int = 1, raw: bool = True, workers: int = 0,
    ) -> Iterator[tuple[Tensor | None, Tensor, Tensor]]:  # fmt: skip
        """Yield one epoch, the same from disk and from any device.

        A batch is (raw, compressed, labels): uint8 (B, 3, S, S) in memory format channels_last, twice, and int64 (B,).

        Args:
            seed, epoch: both together decide order and mirroring. shuffle: False keeps the order of the data set.
            flip: probability that a pair is mirrored left to right, both crops or neither.
            drop_last: complete batches only, and as many for every rank.
            rank, world: which process of how many; each gets its own share of the epoch.
            raw: False yields None for the raw side, which then costs nothing.
            workers: processes that read from disk.
        """
        if batch_size < 1 or not 0 <= rank < world or not 0 <= flip <= 1:
            said = f"batch_size is {batch_size}, rank {rank} of {world}, flip {flip}"
            raise ValueError(f"{said}; expected 1 or more, 0 to {world - 1}, a share")
        # Drawn on the CPU, so that every device gets the same.
        generator = torch.Generator().manual_seed((int(seed) * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        mirrored = (torch.rand(len(self), generator=generator) < flip) * torch.tensor(255, dtype=torch.uint8)
        order = order[rank::world]
        if drop_last:
            order = order[: len(self) // (batch_size * world) * batch_size]
        where = self._labels.device
        sides = tuple(dict.fromkeys(self._own if raw else self._own[COMPRESSED:]))
        held, gather = set(sides) <= set(self._held), functools.partial(self._gather, sides)
        if held:  # sent once an epoch: what is sent in a step waits for the device
            order, mirrored = order.to(where), mirrored.to(where)
        pieces = order.split(batch_size) if len(order) else ()
        # With a generator of its own a loader draws nothing from torch's.
        how = {"num_workers": workers, "collate_fn": gather, "generator": torch.Generator()}
        read = map(gather, pieces) if held else DataLoader(pieces, None, **how)
        for piece, found in zip(pieces, read, strict=True):
            chosen = mirrored[piece].to(where).view(-1, 1, 1, 1)
            found = [side.to(where, non_blocking=True) for side in found]
            # Chosen by its bits: torch.where takes ten times as long on bytes.
            found = [(side ^ ((side ^ side.flip(2)) & chosen)).permute(0, 3, 1, 2) for side in found]
            yield found[0] if raw else None, found[-1], self._labels[piece]

    def _gather(self, sides: tuple[int, ...], indices: Tensor) -> list[Tensor]:
        """Crops of items, uint8 (B, S, S, 3) for each side."""

        def read(side: int) -> Tensor:
            if side in self._held:
                return self._held[side].index_select(0, indices.to(self.device))
            files, frames = self._files[side], self.frames
            return torch.stack([_mapped(self.out / files[self._file[i]])[frames[i]] for i in indices.tolist()])

        return [read(side) for side in sides]

    def _whole(self, side: int) -> Tensor:
        """All crops of one side, uint8 (N, S, S, 3)."""
        return self._held[side] if side in self._held else torch.cat([_mapped(self.out / f) for f in self._files[side]])


def normalised(crops: Tensor, mean, std) -> Tensor:
    """(crops / 255 - mean) / std in float32, of uint8 crops; mean and std are numbers or broadcastable tensors."""
    return crops.to(torch.float32).div_(255).sub_(mean).div_(std)


def _mapped(path: Path) -> Tensor:
    """The crops of a file, (N, S, S, 3), mapped into memory: torch keeps no file open, where NumPy keeps one a map."""
    return _map(str(path), os.stat(path).st_mtime_ns, os.stat(path).st_size)


@functools.lru_cache(maxsize=1 << 16)
def _map(path: str, changed: int, size: int) -> Tensor:
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if size != start + math.prod(shape):
        remedy = "prepare the folder again, or remove the file if it is of a condition"
        raise ValueError(f"{path} is not as it was written; {remedy}")
    if not path.isprintable():  # in no UTF-8, which torch does not open
        return torch.from_numpy(np.memmap(path, np.uint8, "c"))[start:].view(shape)
    return torch.from_file(path, shared=False, size=size, dtype=torch.uint8)[start:].view(shape)
