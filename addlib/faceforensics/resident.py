"""A whole prepared set in the memory of a device: batches are drawn there, and nothing is read during training."""

import torch

from .drawing import Draw, finish
from .pairs import FacePairs


class ResidentPairs:
    """The pairs of FacePairs as two uint8 tensors on a device.

    out, manipulation, quality, split: as for FacePairs. device: "cpu", "cuda", …
    64 crops of 128×128 from each of 1,440 videos take 9 GB for both sides together; ``nbytes`` says how much it is.
    ``videos``, ``frames``, ``labels`` and ``left_out`` are those of FacePairs.
    Raises MemoryError, with the sizes, where a GPU has not enough memory left.
    """

    def __init__(self, out, manipulation, quality, split, *, device="cpu"):
        self.device = torch.device(device)
        pairs = FacePairs(out, manipulation, quality, split)
        self.videos, self.frames, self.left_out, self.labels = pairs.videos, pairs.frames, pairs.left_out, pairs.labels
        self.nbytes = 2 * len(pairs) * pairs[0][0].numel()
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self.nbytes > 0.9 * free:
                raise MemoryError(
                    f"{len(pairs)} pairs take {self.nbytes / 1e9:.1f} GB, {self.device} has {free / 1e9:.1f} GB free; "
                    "use device='cpu', or FacePairs with a DataLoader"
                )
        # One side after the other: the host never holds both. Rows of pixels stay together (channels last) for the gather.
        self._sides = tuple(pairs.whole(side).to(self.device) for side in (0, 1))
        self._labels = self.labels.to(self.device)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        raw, compressed = (side[index].permute(2, 0, 1).contiguous() for side in self._sides)
        return raw, compressed, int(self.labels[index])

    def batches(
        self, batch_size, *, seed=0, epoch=0, generator=None, shuffle=True, flip=0.0, normalise=None, drop_last=False,
        draw=None,
    ):  # fmt: skip
        """Yield (raw, compressed, labels) of one epoch; the same as ``drawing.batches`` on FacePairs gives for the same seed.

        batch_size: pairs. seed, epoch, generator, shuffle, flip: see ``drawing.Draw.of``. normalise: see ``drawing.finish``.
        draw: a Draw to use instead of a new one.
        Yields (B, 3, S, S) twice (channels last in memory) and labels (B,) int64, on the device.
        """
        draw = draw or Draw.of(len(self), seed=seed, epoch=epoch, shuffle=shuffle, flip=flip, generator=generator)
        mirrored = draw.mirrored.to(self.device)
        for piece in draw.batches(batch_size, drop_last):
            index = piece.to(self.device)
            sides = (side.index_select(0, index).permute(0, 3, 1, 2) for side in self._sides)
            raw, compressed = (finish(side, mirrored[index], normalise) for side in sides)
            yield raw, compressed, self._labels[index]
