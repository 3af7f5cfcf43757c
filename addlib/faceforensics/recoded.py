"""The crops of a prepared folder as they had been if its videos had come under another condition: same frames, same boxes."""

import contextlib
import hashlib
import json
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from .. import faces
from ..files import write
from ..parallel import map_unordered, one_thread
from ..reading import VideoError
from . import conditions, timing
from .cutting import find_faces, frame_order
from .manifest import data_hash
from .resident import ResidentPairs
from .source import open_source
from .tree import QUALITIES, discover

RECIPE = 1  # raise when the same condition would give other crops


class RecodedPairs(ResidentPairs):
    """The raw crops of a split, and in the place of the compressed ones the same crops under a condition.

    root: the FF++ tree that ``out`` was prepared from. out, manipulation, split, device: as for ResidentPairs.
    condition: of ``conditions``, applied to the whole frames of the raw videos; or a quality, "raw", "c23" or "c40": the crops
    that ``out`` holds.
    videos: only these, by their names in ``FacePairs.videos``; None: all. cache: folder where crops are kept, a file a video, under
    the hash of the data, the condition and what decides the bytes; None is "conditions" beside ``out``. Whoever needs the
    same again finds them, and what was interrupted goes on. workers: processes that encode.
    Items, order, ``videos``, ``frames`` and ``labels`` are those of FacePairs. ``kbits``: kilobits a second, mean of the videos.
    Raises ValueError for a condition that does not exist or that PyAV lacks, for unknown videos, and where the raw crops of
    ``out`` are not found again in ``root``; FileNotFoundError where files are missing.
    """

    def __init__(self, root, out, manipulation, split, condition, *, videos=None, cache=None, workers=1, device="cpu"):
        quality = condition if condition in QUALITIES else "raw"
        super().__init__(out, manipulation, quality, split, device=device)
        self.condition = condition
        if videos is not None:
            self._keep(list(videos))
        there = {f"{item.manipulation}/{item.name}": item for item in discover(root, [manipulation])}
        names = list(dict.fromkeys(self.videos))
        if absent := [name for name in names if name not in there]:
            raise FileNotFoundError(
                f"{root} lacks {absent[:3]}, which {out} was prepared from; give the tree that it was"
            )
        items = [there[name] for name in names]
        if condition in QUALITIES:
            self.kbits = float(np.mean([_rate(item.files.get(condition)) for item in items]))
            return
        found = recoded_crops(items, out, condition, cache=cache, workers=workers)
        crops = torch.from_numpy(np.concatenate([crops for crops, _ in found]))
        if len(crops) != len(self):
            raise ValueError(f"{len(crops)} crops under {condition!r}, {len(self)} in {out}; prepare it again")
        self.kbits = float(np.mean([kbits for _, kbits in found]))
        self._sides = (self._sides[0], crops.to(self.device))

    def _keep(self, videos):
        if unknown := sorted(set(videos) - set(self.videos)):
            raise ValueError(f"no videos {unknown[:3]} in this split; there are such as {self.videos[0]!r}")
        chosen = torch.from_numpy(np.isin(self.videos.astype(str), videos))
        self.videos, self.frames, self.labels = self.videos[chosen], self.frames[chosen], self.labels[chosen]
        self._sides = tuple(side[chosen.to(self.device)] for side in self._sides)
        self._labels = self.labels.to(self.device)
        self.nbytes = sum(side.nbytes for side in self._sides)


def recoded_crops(items, out, condition, *, cache=None, workers=1):
    """Crops (N, S, S, 3) uint8, ascending by frame, and kilobits a second of each video under a condition: a list of pairs.

    items: ``tree.Video``s that ``out`` was prepared from. The rest, and what is raised: as for RecodedPairs.
    """
    conditions.parse(condition)
    for reason in conditions.missing([condition]).values():
        raise ValueError(f"condition {condition!r}: {reason}")
    cache = (Path(out).parent / "conditions" if cache is None else Path(cache)) / data_hash(out)
    paths = [cache / _folder(condition) / item.manipulation / f"{item.name}.npz" for item in items]
    found = {path: _read(path) for path in paths}
    jobs = [
        (item, str(out), condition, str(cache), str(path))
        for item, path in zip(items, paths, strict=True)
        if found[path] is None
    ]
    for path in map_unordered(_recode, jobs, workers=workers, total=len(jobs), describe=condition) if jobs else ():
        found[Path(path)] = _read(path)
    return [found[path] for path in paths]


def boxes_of(item, out):
    """{frame number: (left, top, right, bottom)} of a prepared video, ascending: its faces, found again as ``prepare`` found them.

    Raises ValueError where the crops at these boxes are not those that ``out`` holds.
    """
    settings = _settings(item, out)
    if "raw" not in item.files:
        raise FileNotFoundError(f"no raw file of {item.manipulation}/{item.name}: its boxes cannot be found")
    raw = open_source(item.files["raw"])
    usable = set(raw.numbers.tolist())
    for quality in set(settings["qualities"]) & set(item.files) - {"raw"}:
        with contextlib.suppress(VideoError, OSError):  # prepare lists it as failed, and goes on without it
            usable &= set(timing.match(raw, open_source(item.files[quality]))[0])
    order = frame_order(raw.total, item.manipulation, item.name, settings["seed"]).tolist()
    found = find_faces(raw, [number for number in order if number in usable], settings)
    kept = np.load(Path(out) / "crops" / item.manipulation / "raw" / f"{item.name}.npy")
    crops = [found.crops[number] for number in sorted(found.crops)]
    if not crops or not np.array_equal(np.stack(crops), kept):
        raise ValueError(
            f"{item.files['raw']} gives other crops than {out} holds; name the tree that it was prepared from, or prepare it again"
        )
    return dict(sorted(found.boxes.items()))


def _recode(job):
    """Write the crops of one video under a condition; returns their path."""
    item, out, condition, cache, path = job
    with one_thread():
        where = Path(cache) / "boxes" / item.manipulation / f"{item.name}.json"
        if not where.is_file():
            text = json.dumps(boxes_of(item, out))
            write(where, lambda file: file.write(text.encode()))
        boxes = {int(number): box for number, box in json.loads(where.read_text()).items()}
        settings, raw = _settings(item, out), open_source(item.files["raw"])
        place = {number: index for index, number in enumerate(raw.numbers.tolist())}
        frames = (picture.rgb() for _, picture in raw.pictures(list(place)))
        wanted = {place[number] for number in boxes}
        seen = conditions.recode(frames, condition, fps=_fps(raw), wanted=wanted)
        crops = [
            faces.crop(seen.frames[place[number]], box, settings["size"], settings["scale"])
            for number, box in boxes.items()
        ]
    write(Path(path), lambda file: np.savez(file, crops=np.stack(crops), kbits=seen.kbits))
    return path


def _settings(item, out):
    """What the crops of a video were cut with."""
    record = Path(out) / "records" / item.manipulation / f"{item.name}.json"
    if not record.is_file():
        raise FileNotFoundError(f"no {record}, which says how the crops were cut; prepare the folder again")
    return json.loads(record.read_text())["key"]


def _read(path):
    """(crops, kilobits a second) of a file that ``_recode`` wrote; None if there is none, or none that is whole."""
    try:
        with np.load(path) as found:
            return found["crops"], float(found["kbits"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _folder(condition):
    """Name of a condition's folder, with a hash of what decides its bytes."""
    steps = conditions.parse(condition)
    encoders = [(c.encoder, c.options) for c in (conditions.CODECS.get(name) for name, _ in steps) if c]
    text = json.dumps([RECIPE, steps, encoders, av.__version__, cv2.__version__])
    name = "-".join(part for part in condition.replace(">", " ").split())
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _fps(source):
    """Frames a second of a source; 25 where it has no times."""
    if source.times is None or len(source.times) < 2:
        return 25.0
    return float(1 / np.median(np.diff(source.times)))


def _rate(path):
    """Kilobits a second of a file; NaN for a folder of images, or None."""
    if path is None or path.is_dir():
        return float("nan")
    source = open_source(path)
    return 8 * conditions.payload(path) * _fps(source) / 1000 / source.total
