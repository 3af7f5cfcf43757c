"""From videos to aligned face crops and a manifest: one job a video, over processes or machines; interrupted work goes on."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from addlib import parallel, provenance
from addlib.files import OutputError, atomic_write, locked

from . import splits as splitting
from .manifest import COLUMNS, MANIFEST, csv_bytes
from .tree import QUALITIES, WITHOUT_SPLIT, Video, discover

if TYPE_CHECKING:
    import pandas as pd

LOCK = ".lock"
LIBRARIES = ("numpy", "opencv", "av", "dlib")  # whose versions decide the pixels of a crop


def prepare(
    root: str | Path, out: str | Path, *, manipulations: Iterable[str] | None = None, qualities: Sequence[str] = QUALITIES,
    frames: int = 64, size: int = 128, seed: int = 0, splits: str | Path | dict | None = None, workers: int | None = None,
    scheduler: str | None = None, upsample: int = 0, retry: int = 1, search: int | None = 480, scale: float = 1.3,
) -> pd.DataFrame:  # fmt: skip
    """Cut the faces out of a FaceForensics++ tree.

    Nothing is left out silently: a video that gives fewer crops than asked for, or none, is listed with the reason.

    Args:
        root: the tree (see ``discover``).
        out: folder for crops and manifest. Videos that it holds already, made from the same file with the same settings, code
            and libraries, are kept. The manifest lists what this call asked for, no more.
        manipulations: what to prepare; see ``discover``.
        qualities: what to prepare; raw must be among them, the boxes come from it.
        frames: crops wanted of a video, drawn at random; a frame without a face is replaced by another while there are any.
        size: side of a crop in pixels.
        seed: of the frames drawn and, where ``splits`` is None, of a 72/14/14 split of identity pairs.
        splits: folder of FF++'s train.json, val.json, test.json, or the same as a dict. Videos outside it are listed, not cut.
        workers: processes on this machine (see ``parallel.map_unordered``). With 1, in this process, a video that brings it
            down takes all with it.
        scheduler: address of a Dask scheduler, whose workers must see ``root`` and ``out`` under the same paths.
        upsample: times that a frame is doubled before the search: 0 finds faces of 80 pixels and more.
        retry: so many times a video in whose first frames hardly a face is found is searched again at double the scale.
        search: a frame whose shorter side is longer than this many pixels is searched on a smaller luminance copy; None: never.
        scale: side of the square in lengths of dlib's box (see ``faces.square``).

    Returns:
        The manifest, also in out/manifest.csv: one row a video and quality. ``status`` is ok, short (fewer crops than asked, with
        the reason) or failed (none, with the reason); ``note`` says what else is out of the ordinary. A quality whose frames
        cannot be aligned with raw's is listed as failed.

    Raises:
        FileNotFoundError, ValueError: for a tree, split or setting that cannot be used, before anything is cut.
        InUseError: while another process prepares ``out``.
        OutputError: where ``out`` cannot be written, such as on a full disk; what was done by then is kept.
    """
    qualities, manipulations = tuple(dict.fromkeys(qualities)), None if manipulations is None else list(manipulations)
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
    _check_qualities(root, videos, qualities)
    assigned = splitting.seeded([item.ids for item in videos], seed) if splits is None else splitting.official(splits)
    splitting.check(videos, assigned)
    made_with = {name: provenance.versions().get(name) for name in LIBRARIES}
    made_with["code"] = provenance.code_hash("addlib.faceforensics.cutting")
    settings = {"frames": frames, "size": size, "seed": seed, "scale": scale}
    settings |= {"upsample": upsample, "retry": retry, "search": search}
    with locked(out / LOCK, wait=False):
        for part in out.rglob(".*.part"):  # what a killed process left half-written
            part.unlink(missing_ok=True)
        rows, jobs = [], []
        for item in videos:
            key = {**settings, "made_with": made_with, "qualities": list(qualities), "sources": item.stamps()}
            job = (item, str(out), qualities, settings, key)
            if splitting.split_of(item.ids, assigned) is None:
                rows += _blank_rows(job, f"identities {'_'.join(item.ids)} are in no split, or in two")
            elif (kept := _kept(record_path(out, item), key, out)) is not None:
                rows += kept
            else:
                jobs.append(job)
        for found in parallel.map_unordered(
            _prepare_video, jobs, workers=workers, scheduler=scheduler, total=len(jobs), describe="videos cut", lost=_lost
        ):
            rows += found
        table = _table(rows, assigned)
        atomic_write(out / MANIFEST, lambda file: file.write(csv_bytes(table)))
    _warn_of_gaps(table)
    return table


def _check_qualities(root: str | Path, videos: list[Video], qualities: Sequence[str]) -> None:
    """Raise ValueError where a quality is there of no real video, or of no video of a manipulation."""
    for manipulation in dict.fromkeys(video.manipulation for video in videos):
        there = {quality for video in videos if video.manipulation == manipulation for quality in video.files}
        if absent := [quality for quality in qualities if quality not in there]:
            remedy = (
                "raw is needed, because the faces are found on it: fetch it"
                if "raw" in absent
                else f"fetch them, or prepare qualities {' '.join(quality for quality in qualities if quality in there)} alone"
            )
            raise ValueError(f"{root} holds {manipulation} in {sorted(there)}, and no {' or '.join(absent)}; {remedy}")


def _table(rows: list[dict], assigned: dict[str, str]) -> pd.DataFrame:
    """The manifest of rows without split, sorted."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "split"])
    table.insert(0, "split", [splitting.split_of(ids.split("_"), assigned) or "" for ids in table["ids"]])
    return table.sort_values(["manipulation", "video", "quality"], ignore_index=True)[COLUMNS]


def _warn_of_gaps(table: pd.DataFrame) -> None:
    """Say which classes have no crop in a split: nothing can be trained or measured on the other class alone."""
    for split in sorted(set(table["split"]) - {""}):
        for (manipulation, quality), rows in table.groupby(["manipulation", "quality"]):
            rows = rows[rows["split"] == split]
            if not rows["crops"].any():
                why = f", for instance {rows.iloc[0].video}: {rows.iloc[0].reason}" if len(rows) else ""
                warnings.warn(f"{split} has no crop of {manipulation}/{quality} from {len(rows)} videos{why}", stacklevel=3)


def _prepare_video(job: tuple) -> list[dict]:
    """Crops of one video in all qualities; returns its manifest rows (without split). Raises OutputError only."""
    from .cutting import cut_video, reason

    item, out, qualities, settings, key = job
    out = Path(out)

    def save(quality: str, crops: np.ndarray) -> str:
        path = Path("crops") / item.manipulation / quality / f"{item.name}.npy"
        # NumPy, writing to a file itself, does not say why it could not.
        buffer = io.BytesIO()
        np.save(buffer, crops)
        atomic_write(out / path, lambda file: file.write(buffer.getbuffer()))
        return path.as_posix()

    try:
        with parallel.one_thread():
            cut = cut_video(item, qualities, settings, save)
    except OutputError:
        raise
    except Exception as error:  # whatever a library makes of a file that nobody has seen before: the other videos go on
        return _blank_rows(job, reason(f"unexpected {type(error).__name__}: {error}", item))
    if cut.lasting:
        text = json.dumps({"key": key, "rows": cut.rows, "boxes": cut.boxes}, indent=1)
        atomic_write(record_path(out, item), lambda file: file.write(text.encode()))
    return cut.rows


def _blank_rows(job: tuple, why: str) -> list[dict]:
    from .cutting import blank_row

    item, _, qualities, settings, _ = job
    return [blank_row(item, quality, settings, why) for quality in qualities]


def _lost(job: tuple, error: Exception) -> list[dict]:
    """Rows of a video whose worker died of it. No record: the next run tries again."""
    return _blank_rows(
        job, f"the worker process died ({type(error).__name__}), out of memory perhaps; run again with fewer workers"
    )


def record_path(out: Path, item: Video) -> Path:
    """Where the settings, manifest rows and boxes of a video are kept, as JSON."""
    return out / "records" / item.manipulation / f"{item.name}.json"


def _kept(record: Path, key: dict, out: Path) -> list[dict] | None:
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
