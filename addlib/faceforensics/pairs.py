"""Pairs of the same crop, raw and compressed, as a torch data set."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from .manifest import read_manifest
from .tree import reals_of


def flip_together(raw, compressed, *, p=0.5, generator=None):
    """Mirror each pair of a batch left to right with probability ``p``, both crops or neither.

    raw, compressed: (B, 3, H, W). generator: for the draw. Returns the two batches.
    Raises ValueError if the shapes differ.
    """
    if raw.shape != compressed.shape:
        raise ValueError(
            f"raw is {tuple(raw.shape)} and compressed {tuple(compressed.shape)}; expected crops of the same frames"
        )
    chosen = torch.rand(len(raw), generator=generator, device=generator.device if generator else raw.device) < p
    chosen = chosen.to(raw.device).view(-1, 1, 1, 1)
    return torch.where(chosen, raw.flip(-1), raw), torch.where(chosen, compressed.flip(-1), compressed)


class FacePairs(Dataset):
    """Real crops and those of one manipulation, each raw and in one quality.

    out: a prepared folder. manipulation: such as "NeuralTextures". quality: "c23" or "c40" (or "raw": both crops are then the
    same). split: "train", "val" or "test". flip: probability that a pair is mirrored.
    An item is (raw, compressed, label): uint8 (3, size, size) tensors and 1 for a fake, 0 for a real.
    Videos that lack crops in either quality are left out; ``left_out`` lists them with the reason.
    ``videos`` and ``frames`` name the origin of each item, in order.
    Raises ValueError if nothing fits, naming what there is.
    """

    def __init__(self, out, manipulation, quality, split, *, flip=0.0, generator=None):
        self.out, self.flip, self.generator = Path(out), flip, generator
        table = read_manifest(out)
        for column, value in (("manipulation", manipulation), ("quality", quality), ("split", split)):
            if value not in set(table[column]):
                raise ValueError(f"no {column} {value!r} in {out}; there are {sorted(set(table[column]) - {''})}")
        table = table[(table["split"] == split) & table["manipulation"].isin([reals_of(manipulation), manipulation])]
        keys = ["manipulation", "video"]
        both = table[table["quality"] == "raw"].merge(
            table[table["quality"] == quality], on=keys, suffixes=("", "_compressed"), how="left"
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
                f"no {manipulation} crops in both raw and {quality} for {split}; {len(left)} videos were left out: {self.left_out[:3]}"
            )
        self._files = list(zip(both["path"], both["path_compressed"], strict=True))
        counts = both["crops"].to_numpy()
        self._file = np.repeat(np.arange(len(both)), counts)
        self.frames = np.concatenate([np.arange(count) for count in counts])
        self.labels = torch.from_numpy(np.repeat(both["label"].to_numpy(), counts))
        self.videos = np.repeat((both["manipulation"] + "/" + both["video"]).to_numpy(dtype=object), counts)

    def __len__(self):
        return len(self._file)

    def __getitem__(self, index):
        pair = [_crop(str(self.out / path), int(self.frames[index])) for path in self._files[self._file[index]]]
        if self.flip:
            pair = [
                crops[0] for crops in flip_together(pair[0][None], pair[1][None], p=self.flip, generator=self.generator)
            ]
        return pair[0], pair[1], int(self.labels[index])

    def arrays(self):
        """All pairs at once: raw and compressed, uint8 (N, 3, size, size) tensors, and labels (N,)."""
        raw, compressed = (self.whole(side).permute(0, 3, 1, 2) for side in (0, 1))
        return raw, compressed, self.labels.clone()

    def whole(self, side):
        """All crops of one side, 0 raw or 1 compressed: uint8 (N, size, size, 3), read file by file into one tensor."""
        shape = _mapped(str(self.out / self._files[0][side])).shape
        crops, start = torch.empty((len(self), *shape[1:]), dtype=torch.uint8), 0
        for pair in self._files:
            part = torch.from_numpy(np.load(self.out / pair[side]))
            crops[start : start + len(part)] = part
            start += len(part)
        return crops


@lru_cache(maxsize=1 << 16)
def _mapped(path):
    """The crops of a file, (N, size, size, 3), mapped into memory: torch keeps no file open, where NumPy keeps one a map."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else (None, True, None)
        start = file.tell()
    size = 0 if shape is None else int(np.prod(shape))
    if fortran or dtype != np.uint8 or os.path.getsize(path) != start + size:
        raise ValueError(f"{path} is not as prepare wrote it; see what addlib verify says, and prepare again")
    return torch.from_file(path, shared=False, size=start + size, dtype=torch.uint8)[start:].view(shape)


def _crop(path, frame):
    return _mapped(path)[frame].permute(2, 0, 1).contiguous()
