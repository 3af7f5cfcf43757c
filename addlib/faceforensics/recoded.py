"""The pairs of a prepared folder with the compressed side under another condition, encoded once and kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from addlib import clips, codecs, faces, provenance
from addlib.files import atomic_write, locked
from addlib.parallel import map_unordered, one_thread

from .manifest import data_hash
from .matching import Clip
from .pairs import COMPRESSED, RAW, FacePairs
from .tree import QUALITIES, Video, discover


class RecodedPairs(FacePairs):
    """The raw crops of a split, and in the place of the compressed ones the same crops under a condition.

    Items, order and attributes are those of FacePairs; ``kbits`` is kilobits a second, mean of the videos.

    Args:
        root: the FF++ tree that ``out`` was prepared from.
        out, manipulation, split, device: as for FacePairs.
        condition: of ``addlib.codecs``, applied to the whole frames of the raw videos; or a quality that ``out`` holds.
        videos: only these, by their names in ``FacePairs.videos``; None: all.
        cache: folder where crops are kept, a file a video, by data, condition and code; None is "conditions" beside ``out``.
        workers: processes that encode.
    """

    def __init__(
        self, root: str | Path, out: str | Path, manipulation: str, split: str, condition: str, *,
        videos: Sequence[str] | None = None, cache: str | Path | None = None, workers: int = 1, device: str | None = "cpu",
    ):  # fmt: skip
        kept, out = condition in QUALITIES, Path(out)
        super().__init__(out, manipulation, condition if kept else "raw", split, videos=videos)
        self.condition = condition
        names, needed = list(dict.fromkeys(self.videos)), condition if kept else "raw"
        there = {f"{item.manipulation}/{item.name}": item for item in discover(root, [manipulation], [needed])}
        if absent := [name for name in names if name not in there]:
            raise FileNotFoundError(f"{root} lacks {needed} of {absent[:3]}; give the tree of which {out} was made")
        if kept:
            self.kbits = float(np.mean([_rate(there[name].files[condition]) for name in names]))
        else:
            chain = [codecs.CODECS[name] for name, _ in codecs.parse(condition) if name in codecs.CODECS]
            libraries = [provenance.versions().get(name) for name in ("numpy", "opencv", "av")]
            made_with = provenance.digest([*libraries, chain, provenance.code_hash(__name__)])
            folder = f"{'-'.join(condition.replace('>', ' ').split())}-{made_with}"
            cache = Path(cache or out.parent / "conditions").absolute() / data_hash(out) / folder
            paths = [cache / f"{name}.npy" for name in names]
            jobs = [(path, there[name], out, condition) for path, name in zip(paths, names, strict=True)]
            jobs = [job for job in jobs if not _rate_of(job[0]).is_file()]
            list(map_unordered(_encode, jobs, workers=workers, total=len(jobs), describe=f"videos under {condition}"))
            self.kbits = float(np.mean([float(_rate_of(path).read_text()) for path in paths]))
            # Beside the folder lie the crops of the compressed side, in files of the same form.
            self._own, self._sides, self._files[COMPRESSED] = (RAW, COMPRESSED), [RAW, COMPRESSED], paths
            self.nbytes *= 2
        self.hold(device)


def _rate_of(path: Path) -> Path:
    """Where the kilobits a second of a video are kept; written last, so that the crops beside it are whole."""
    return path.with_suffix(".kbits")


def _encode(job: tuple[Path, Video, Path, str]) -> None:
    """Encode a whole raw video, and cut its faces where ``prepare`` found them. What another process makes is waited for."""
    path, item, out, condition = job
    record = item.record(out)
    if not record.is_file() or "boxes" not in (found := json.loads(record.read_text())):
        raise FileNotFoundError(f"no boxes in {record}; prepare again")
    raw = clips.open_clip(item.files["raw"])
    place = {number: index for index, number in enumerate(raw.numbers.tolist())}
    boxes = {place.get(int(number), -1): box for number, box in found["boxes"].items()}
    how, originals = (found["key"]["size"], found["key"]["scale"]), []

    def frames():
        for index, (_, frame) in enumerate(raw.frames(place)):
            if index in boxes:
                originals.append(faces.crop(frame, boxes[index], *how))
            yield frame

    with locked(path.with_name(f".{path.name}.lock")), one_thread():
        if not _rate_of(path).is_file():
            seen = codecs.recode(frames(), condition, fps=_frames_a_second(raw), wanted=set(boxes) - {-1})
            if not np.array_equal(originals, np.load(out / "crops" / item.manipulation / "raw" / f"{item.name}.npy")):
                raise ValueError(f"{raw.path} gives other crops than {out} holds; give the tree it was prepared from")
            crops = np.stack([faces.crop(seen.frames[index], box, *how) for index, box in boxes.items()])
            atomic_write(path, lambda file: np.save(file, crops))
            atomic_write(_rate_of(path), lambda file: file.write(str(seen.kbits).encode()))


def _frames_a_second(clip: Clip) -> float:
    # By the median distance of two frames; 25 where there are no times.
    return 25.0 if clip.times is None or len(clip.times) < 2 else float(1 / np.median(np.diff(clip.times)))


def _rate(path: Path) -> float:
    """Kilobits a second of a file; NaN for a folder of images."""
    clip = clips.open_clip(path)
    return float("nan") if path.is_dir() else 8 * codecs.payload(path) * _frames_a_second(clip) / 1000 / clip.total
