"""From videos to aligned face crops and a manifest: one job a video, over processes or machines; interrupted work goes on."""

import io
import json
import warnings
from collections.abc import Iterable, Sequence
from itertools import groupby
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd

from addlib import parallel, provenance
from addlib.files import PART, atomic_write, locked

from . import cutting
from . import splits as splitting
from .manifest import COLUMNS, MANIFEST
from .tree import QUALITIES, WITHOUT_SPLIT, Video, discover, several


def prepare(
    root: str | Path, out: str | Path, *, manipulations: Iterable[str] | None = None, qualities: Sequence[str] = QUALITIES,
    frames: int = 64, size: int = 128, seed: int = 0, splits: str | Path | dict | None = None, workers: int | None = None,
    scheduler: str | None = None, upsample: int = 0, retry: int = 1, search: int | None = 480, scale: float = 1.3,
) -> pd.DataFrame:  # fmt: skip
    """Cut the faces out of a FaceForensics++ tree. A video that gives fewer crops than asked for is listed with the reason.

    Args:
        out: folder for crops and manifest. Videos that it holds already, made from the same file with the same settings,
            code and libraries, are kept. The manifest lists what this call asked for, no more.
        root, manipulations, qualities: what to prepare, see ``discover``. Raw is needed, the boxes come from it.
        frames: crops wanted of a video, drawn at random; a frame without a face is replaced by another while there are any.
        size: side of a crop in pixels.
        seed: of the frames drawn and, where ``splits`` is None, of a 72/14/14 split of identity pairs.
        splits: folder of FF++'s train.json, val.json, test.json, or the same as a dict. Videos outside it are listed, not cut.
        workers, scheduler: as for ``parallel.map_unordered``; Dask's workers must see ``root`` and ``out`` under the same paths.
            With one worker, in this process, a video that brings it down takes all with it.
        upsample, search: see ``faces.all_faces``.
        retry: so many times a video in whose first frames hardly a face is found is searched again at double the scale.
        scale: side of the square in lengths of dlib's box (see ``faces.square``).

    Returns:
        The manifest, also in out/manifest.csv, with one row a video and quality. ``status`` is ok, short (fewer crops than asked,
        with the reason) or failed (none, with the reason); ``note`` says what else is out of the ordinary.

    Raises:
        FileNotFoundError, ValueError: for a tree, split or setting that cannot be used, before anything is cut.
        InUseError: while another process prepares ``out``.
        OutputError: where ``out`` cannot be written, such as on a full disk; what was done by then is kept.
    """
    root, out = Path(root).resolve(), Path(out).resolve()  # a worker elsewhere has another working directory
    qualities, manipulations = several("qualities", qualities), manipulations and several("manipulations", manipulations)
    whole = {"frames": (frames, 1), "size": (size, 8), "seed": (seed, 0), "upsample": (upsample, 0), "retry": (retry, 0)}
    whole |= {"search": (search, 80)} if search else {}
    for name, (value, least) in whole.items():
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if not isinstance(scale, Real) or not 0.1 <= scale <= 10 or "raw" not in qualities:
        needed = "a scale of 0.1 to 10 lengths of dlib's box, and raw, on which the faces are found"
        raise ValueError(f"scale is {scale!r} and qualities {qualities}; expected {needed}")
    settings = {name: int(value) for name, (value, _) in whole.items() if name != "search"}
    settings |= {"scale": float(scale), "search": search and int(search), "qualities": qualities}
    if splits is None and (unsplit := set(manipulations or ()).intersection(WITHOUT_SPLIT)):
        raise ValueError(f"{unsplit} has no official split and no pairs; give splits= with your own, or leave it out")
    videos = discover(root, manipulations, qualities)
    for manipulation, group in groupby(videos, key=lambda video: video.manipulation):
        there = sorted(set().union(*(video.files for video in group)), key=qualities.index)
        if absent := [quality for quality in qualities if quality not in there]:
            remedy = f", or prepare qualities {','.join(there)} alone" if "raw" in there else ": faces are found on raw"
            raise ValueError(f"{root} holds {manipulation} in {there}, and no {' or '.join(absent)}; fetch it{remedy}")
    assigned = splitting.seeded([item.ids for item in videos], seed) if splits is None else splitting.official(splits)
    splitting.check(videos, assigned)
    made_with = {name: provenance.versions().get(name) for name in ("numpy", "opencv", "av", "dlib")}
    made_with["code"] = provenance.code_hash("addlib.faceforensics.cutting")
    with locked(out / ".lock", wait=False):
        # What a killed process left half-written, of prepare and of nobody else.
        for part in [*out.glob(PART), *(part for name in ("crops", "records") for part in (out / name).rglob(PART))]:
            part.unlink(missing_ok=True)
        rows, jobs = [], []
        for item in videos:
            job = item, out, {**settings, "made_with": made_with, "sources": item.stamps()}
            if splitting.split_of(item.ids, assigned) is None:
                rows += _blank_rows(job, f"identities {'_'.join(item.ids)} are in no split, or in two")
            elif kept := _kept(*job):
                rows += kept
            else:
                jobs.append(job)
        how = {"workers": workers, "scheduler": scheduler, "total": len(jobs), "describe": "videos cut"}
        died = "the worker process died, out of memory perhaps; run again with fewer workers"
        for found in parallel.map_unordered(_prepare_video, jobs, lost=lambda job, _: _blank_rows(job, died), **how):
            rows += found
        table = pd.DataFrame(rows, columns=COLUMNS).sort_values(["manipulation", "video", "quality"], ignore_index=True)
        table["split"] = [splitting.split_of(ids.split("_"), assigned) or "" for ids in table["ids"]]
        csv = table.to_csv(index=False, lineterminator="\n").encode(errors="surrogateescape")  # for names in no UTF-8
        atomic_write(out / MANIFEST, lambda file: file.write(csv))
    sums = table[table["split"] != ""].pivot_table("crops", ["manipulation", "quality"], "split", "sum", fill_value=0)
    for manipulation, quality, split in sums.stack().loc[lambda count: count == 0].index:
        why = f"of its videos none is there or could be used, see {MANIFEST}"
        warnings.warn(f"{split} has no crop of {manipulation}/{quality}: {why}", stacklevel=2)
    return table


def _prepare_video(job: tuple[Video, Path, dict]) -> list[dict]:
    """Write the crops of one video in all qualities; returns its manifest rows (without split). Raises OutputError only."""
    item, out, settings = job
    try:
        with parallel.one_thread():
            rows, crops, boxes, lasting = cutting.cut_video(item, settings)
    except Exception as error:  # whatever a library makes of a file that nobody has seen before: the other videos go on
        return _blank_rows(job, cutting.reason(f"unexpected {type(error).__name__}: {error}", item))
    for row in (row for row in rows if row["crops"]):
        row["path"] = f"crops/{item.manipulation}/{row['quality']}/{item.name}.npy"
        buffer = io.BytesIO()  # NumPy, writing to a file itself, does not say why it could not
        np.save(buffer, crops[row["quality"]])
        atomic_write(out / row["path"], lambda file, buffer=buffer: file.write(buffer.getbuffer()))
    if lasting:  # else the next run tries again
        text = json.dumps({"key": settings, "rows": rows, "boxes": boxes}, indent=1)
        atomic_write(item.record(out), lambda file: file.write(text.encode()))
    return rows


def _blank_rows(job: tuple[Video, Path, dict], why: str) -> list[dict]:
    item, _, settings = job
    return [cutting.blank_row(item, quality, settings, why) for quality in settings["qualities"]]


def _kept(item: Video, out: Path, settings: dict) -> list[dict] | None:
    """Rows of an earlier run, if it was made from the same files with the same settings and its crops are still there, whole."""
    try:
        found = json.loads(item.record(out).read_text())
        sizes = [((out / row["path"]).stat().st_size, row["crops"]) for row in found["rows"] if row["crops"]]
        same = found["key"] == settings
    except (OSError, ValueError, TypeError, KeyError):
        return None
    # A machine that loses power may leave a name without its bytes.
    whole = all(size > crops * settings["size"] ** 2 * 3 for size, crops in sizes)
    return found["rows"] if same and whole else None
