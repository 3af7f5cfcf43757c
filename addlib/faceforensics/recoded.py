"""The pairs of a prepared folder with the compressed side under another condition, encoded once and kept."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from addlib import codecs
from addlib.clips import open_clip
from addlib.files import atomic_write, locked
from addlib.parallel import map_unordered, one_thread

from . import recoding
from .manifest import data_hash
from .pairs import COMPRESSED, RAW, FacePairs
from .tree import QUALITIES, Video, discover


class RecodedPairs(FacePairs):
    """The raw crops of a split, and in the place of the compressed ones the same crops under a condition.

    Items, order and attributes are those of FacePairs.

    Args:
        root: the FF++ tree that ``out`` was prepared from.
        out, manipulation, split, device: as for FacePairs.
        condition: of ``addlib.codecs``, applied to the whole frames of the raw videos; or a quality, "raw", "c23" or "c40": the
            crops that ``out`` holds.
        videos: only these, by their names in ``FacePairs.videos``; None: all.
        cache: folder where crops are kept, a file a video, under the hash of the data, the condition and what decides the bytes;
            None is "conditions" beside ``out``.
        workers: processes that encode.

    Attributes:
        kbits: kilobits a second, mean of the videos.

    Raises:
        ValueError: for a condition that does not exist or that PyAV lacks, for unknown videos, and where the raw crops of ``out``
            are not found again in ``root``.
        FileNotFoundError: where files are missing.
    """

    def __init__(
        self, root: str | Path, out: str | Path, manipulation: str, split: str, condition: str, *,
        videos: Sequence[str] | None = None, cache: str | Path | None = None, workers: int = 1, device: str = "cpu",
    ):  # fmt: skip
        kept = condition in QUALITIES
        super().__init__(out, manipulation, condition if kept else "raw", split, device=device)
        self.condition = condition
        if videos is not None:
            self._keep(list(videos))
        there = {f"{item.manipulation}/{item.name}": item for item in discover(root, [manipulation])}
        names = list(dict.fromkeys(self.videos))
        if absent := [name for name in names if name not in there]:
            raise FileNotFoundError(f"{root} lacks {absent[:3]}, which {out} was prepared from; give the tree that it was")
        items = [there[name] for name in names]
        if kept:
            self.kbits = float(np.mean([_rate(item.files.get(condition)) for item in items]))
            return
        found = recoded_crops(items, out, condition, cache=cache, workers=workers)
        crops = torch.from_numpy(np.concatenate([crops for crops, _ in found]))
        self.kbits = float(np.mean([kbits for _, kbits in found]))
        self._own, self._held = (RAW, COMPRESSED), self._held | {COMPRESSED: crops.to(self.device)}
        self.nbytes *= 2

    def _keep(self, videos: list[str]) -> None:
        if unknown := sorted(set(videos) - set(self.videos)):
            raise ValueError(f"no videos {unknown[:3]} in this split; there are such as {self.videos[0]!r}")
        chosen = np.isin(self.videos.astype(str), videos)
        self.videos, self.frames, self._file = self.videos[chosen], self.frames[chosen], self._file[chosen]
        chosen = torch.from_numpy(chosen)
        self.labels, self._labels = self.labels[chosen], self._labels[chosen.to(self.device)]
        self._held = {side: crops[chosen.to(self.device)] for side, crops in self._held.items()}
        self.nbytes = sum(crops.nbytes for crops in self._held.values())


def recoded_crops(
    items: Sequence[Video], out: str | Path, condition: str, *, cache: str | Path | None = None, workers: int = 1
) -> list[tuple[np.ndarray, float]]:
    """Crops (N, S, S, 3) uint8, ascending by frame, and kilobits a second of each video under a condition.

    Args:
        items: videos that ``out`` was prepared from.
        out, condition, cache, workers: as for RecodedPairs, and so is what is raised.
    """
    for reason in codecs.missing([condition]).values():
        raise ValueError(f"condition {condition!r}: {reason}")
    folder = Path(out).parent / "conditions" if cache is None else Path(cache)
    folder /= f"{data_hash(out)}/{'-'.join(condition.replace('>', ' ').split())}-{recoding.made_with(condition)}"
    paths = [folder / item.manipulation / f"{item.name}.npz" for item in items]
    found = {path: _read(path) for path in paths}
    jobs = [(item, Path(out), condition, path) for item, path in zip(items, paths, strict=True) if found[path] is None]
    for path in map_unordered(_encode, jobs, workers=workers, total=len(jobs), describe=f"videos under {condition}"):
        found[path] = _read(path)
    return [found[path] for path in paths]


def _encode(job: tuple) -> Path:
    """Write the crops of one video under a condition; returns their path. What another process is making is waited for."""
    item, out, condition, path = job
    with locked(path.with_name(f".{path.name}.lock")), one_thread():
        if _read(path) is None:
            crops, kbits = recoding.recode_video(item, out, condition)
            atomic_write(path, lambda file: np.savez(file, crops=crops, kbits=kbits))
    return path


def _read(path: Path) -> tuple[np.ndarray, float] | None:
    """Crops and kilobits a second that ``_encode`` wrote; None if there is no file, or none that is whole."""
    try:
        with np.load(path) as found:
            return found["crops"], float(found["kbits"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _rate(path: Path | None) -> float:
    """Kilobits a second of a file; NaN for a folder of images, or None."""
    if path is None or path.is_dir():
        return float("nan")
    clip = open_clip(path)
    return 8 * codecs.payload(path) * recoding.frames_a_second(clip) / 1000 / clip.total
