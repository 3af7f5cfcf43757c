"""From videos to aligned face crops and a manifest: one task a video, over processes or machines, to be gone on with at any time."""

import json
from pathlib import Path

import pandas as pd

from ..parallel import map_unordered, one_thread
from . import splits as splitting
from .cutting import blank, cut_video, frame_order, plain
from .manifest import COLUMNS, MANIFEST, csv_bytes
from .source import stamp
from .storing import OutputError, held, npy, write
from .tree import QUALITIES, WITHOUT_SPLIT, discover

__all__ = ["frame_order", "prepare"]

RECIPE = 1  # raise when the same settings would give other crops


def prepare(
    root, out, *, manipulations=None, qualities=QUALITIES, frames=64, size=128, seed=0, splits=None, workers=None, scheduler=None,
    upsample=0, retry=1, search=480, scale=1.3,
):  # fmt: skip
    """Cut the faces out of a FaceForensics++ tree.

    root: the tree (see ``discover``). out: folder for crops and manifest; videos that it holds already, made from the same
    file with the same settings, are kept. The manifest lists what this call asked for, no more.
    manipulations, qualities: what to prepare; raw must be among the qualities, the boxes come from it.
    frames: crops wanted of a video, drawn at random; a frame without a face is replaced by another while there are any.
    size: side of a crop in pixels. seed: of the frames drawn and, where ``splits`` is None, of a 72/14/14 split of identity pairs.
    splits: folder of FF++'s train.json, val.json, test.json, or the same as a dict.
    workers, scheduler: processes on this machine (None: one a core; with 1, in this process, a video that brings it down takes
    all with it), or the address of a Dask scheduler, whose workers must see ``root`` and ``out`` under the same paths.
    upsample: times that a frame is doubled before the search: 0 finds faces of 80 pixels and more. retry: so many times a video
    in whose first frames hardly a face is found is searched again at double the scale. search: a frame whose shorter side is
    longer than this many pixels is searched on a smaller luminance copy (None: never). scale: see ``faces.square``.
    Returns the manifest, also in out/manifest.csv: one row a video and quality; ``status`` is ok, short (fewer crops than
    asked, with the reason) or failed (none, with the reason); ``note`` says what else is out of the ordinary. A quality whose
    frames cannot be aligned with raw's is listed as failed. Nothing is left out silently.
    Raises FileNotFoundError and ValueError for a tree, split or setting that cannot be used, InUseError while another process
    prepares ``out``, OutputError where ``out`` cannot be written, such as on a full disk; what was done by then is kept.
    """
    qualities = tuple(dict.fromkeys(qualities))
    if "raw" not in qualities:
        raise ValueError(f"qualities are {list(qualities)}; raw must be among them, because the faces are found on it")
    if frames < 1 or size < 8:
        raise ValueError(f"frames is {frames} and size {size}; expected at least 1 frame and 8 pixels")
    if upsample < 0 or retry < 0 or (search is not None and search < 80):
        raise ValueError(
            f"upsample is {upsample}, retry {retry}, search {search}; expected 0 or more twice, and 80 pixels (a face) or more"
        )
    unsplit = [name for name in manipulations or () if name in WITHOUT_SPLIT]
    if unsplit and splits is None:
        raise ValueError(
            f"{unsplit} has no official split and no pairs; give splits= with your own identities, or leave it out"
        )
    out = Path(out)
    videos = discover(root, manipulations, qualities)
    assigned = splitting.seeded([item.ids for item in videos], seed) if splits is None else splitting.official(splits)
    settings = {"recipe": RECIPE, "frames": frames, "size": size, "seed": seed, "scale": scale}
    settings |= {"upsample": upsample, "retry": retry, "search": search}
    with held(out):
        rows, jobs = [], []
        for item in videos:
            key = {
                **settings,
                "qualities": list(qualities),
                "sources": {quality: stamp(path) for quality, path in item.files.items()},
            }
            kept = _kept(_record(out, item), key, out)
            if kept is None:
                jobs.append((item, str(out), qualities, settings, key))
            rows += kept or []
        if jobs:
            for found in map_unordered(
                _prepare_video,
                jobs,
                workers=workers,
                scheduler=scheduler,
                total=len(jobs),
                describe="videos",
                lost=_lost,
            ):
                rows += found
        table = _table(rows, assigned)
        write(out / MANIFEST, lambda file: file.write(csv_bytes(table)))
    return table


def _table(rows, assigned):
    """The manifest of rows without split, sorted; a video whose identities have no one split is listed as failed."""
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "split"])
    table.insert(0, "split", [splitting.split_of(ids.split("_"), assigned) or "" for ids in table["ids"]])
    lost = table["split"] == ""
    table.loc[lost, "reason"] = "identities " + table.loc[lost, "ids"] + " are in no split, or in two"
    table.loc[lost, "status"] = "failed"
    return table.sort_values(["manipulation", "video", "quality"], ignore_index=True)[COLUMNS]


def _prepare_video(job):
    """Crops of one video in all qualities; returns its manifest rows (without split). Raises OutputError only."""
    item, out, qualities, settings, key = job
    out = Path(out)

    def save(quality, crops):
        path = Path("crops") / item.manipulation / quality / f"{item.name}.npy"
        write(out / path, lambda file: file.write(npy(crops)))
        return path.as_posix()

    try:
        with one_thread():
            rows, lasting = cut_video(item, qualities, settings, save)
    except OutputError:
        raise
    except Exception as error:  # whatever a library makes of a file that nobody has seen before: the other videos go on
        reason, lasting = f"unexpected {type(error).__name__}: {error}", False
        rows = [blank(item, quality, settings) | {"reason": plain(reason, item)} for quality in qualities]
    if lasting:
        text = json.dumps({"key": key, "rows": rows}, indent=1)
        write(_record(out, item), lambda file: file.write(text.encode()))
    return rows


def _lost(job, error):
    """Rows of a video whose worker died of it. No record: the next run tries again."""
    item, _, qualities, settings, _ = job
    reason = f"the worker process died ({type(error).__name__}), out of memory perhaps; run again with fewer workers"
    return [blank(item, quality, settings) | {"reason": reason} for quality in qualities]


def _record(out, item):
    return out / "records" / item.manipulation / f"{item.name}.json"


def _kept(record, key, out):
    """Rows of an earlier run, if it was made from the same files with the same settings and its crops are still there, whole."""
    try:
        found = json.loads(record.read_text())
        rows = found["rows"]
        if found["key"] != key or any(set(COLUMNS) - set(row) - {"split"} for row in rows):
            return None
        for row in rows:
            least = row["crops"] * key["size"] ** 2 * 3  # a machine that loses power may leave a name without its bytes
            if row["crops"] and (out / row["path"]).stat().st_size <= least:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows
