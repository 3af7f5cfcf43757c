"""From videos to aligned face crops and a manifest. The face is found once, on raw; every quality is cut at the same box."""

import hashlib
import json
import os
import uuid
from pathlib import Path

import av
import numpy as np
import pandas as pd

from .. import faces, video
from ..parallel import map_unordered, one_thread
from . import splits as splitting
from .manifest import COLUMNS, MANIFEST
from .tree import QUALITIES, WITHOUT_SPLIT, discover

RECIPE = 1  # raise when the same settings would give other crops


def prepare(
    root, out, *, manipulations=None, qualities=QUALITIES, frames=64, size=128, seed=0, splits=None, workers=None, scheduler=None,
    upsample=0, scale=1.3,
):  # fmt: skip
    """Cut the faces out of a FaceForensics++ tree.

    root: the tree (see ``discover``). out: folder for crops and manifest; videos that it holds already, made from the same
    file with the same settings, are kept.
    manipulations, qualities: what to prepare; raw must be among the qualities, the boxes come from it.
    frames: crops wanted of a video, drawn at random; a frame without a face is replaced by another while there are any.
    size: side of a crop in pixels. seed: of the frames drawn and, where ``splits`` is None, of a 72/14/14 split of identity pairs.
    splits: folder of FF++'s train.json, val.json, test.json, or the same as a dict.
    workers, scheduler: processes on this machine (None: one a core), or the address of a Dask scheduler.
    upsample: times that a frame is doubled before the search: 0 finds faces of 80 pixels and more. scale: see ``faces.square``.
    Returns the manifest, also in out/manifest.csv: one row a video and quality; ``status`` is ok, short (fewer crops than
    asked, with the reason) or failed (none, with the reason). Nothing is left out silently.
    Raises FileNotFoundError and ValueError for a tree, split or setting that cannot be used.
    """
    if "raw" not in qualities:
        raise ValueError(f"qualities are {list(qualities)}; raw must be among them, because the faces are found on it")
    if frames < 1 or size < 8:
        raise ValueError(f"frames is {frames} and size {size}; expected at least 1 frame and 8 pixels")
    unsplit = [name for name in manipulations or () if name in WITHOUT_SPLIT]
    if unsplit and splits is None:
        raise ValueError(f"{unsplit} has no official split and no pairs; give splits= with your own identities")
    out = Path(out)
    videos = discover(root, manipulations, qualities)
    names = [item.ids for item in videos]
    assigned = splitting.seeded(names, seed) if splits is None else splitting.official(splits)
    settings = {"recipe": RECIPE, "frames": frames, "size": size, "seed": seed, "upsample": upsample, "scale": scale}
    rows, jobs = [], []
    for item in videos:
        key = {
            **settings,
            "qualities": list(qualities),
            "sources": {quality: _stamp(path) for quality, path in item.files.items()},
        }
        kept = _kept(_record(out, item), key, out)
        if kept is None:
            jobs.append((item, str(out), tuple(qualities), settings, key))
        rows += kept or []
    if jobs:
        for found in map_unordered(
            _prepare_video, jobs, workers=workers, scheduler=scheduler, total=len(jobs), describe="videos"
        ):
            rows += found
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "split"])
    table.insert(0, "split", [splitting.split_of(ids.split("_"), assigned) or "" for ids in table["ids"]])
    lost = table["split"] == ""
    table.loc[lost, "reason"] = "identities " + table.loc[lost, "ids"] + " are in no split, or in two"
    table.loc[lost, "status"] = "failed"
    table = table.sort_values(["manipulation", "video", "quality"], ignore_index=True)[COLUMNS]
    _write(out / MANIFEST, table.to_csv(index=False, lineterminator="\n").encode())
    return table


def _write(path, content):
    """Write bytes so that the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _prepare_video(job):
    """Crops of one video in all qualities; returns its manifest rows (without split). Never raises for a bad video."""
    item, out, qualities, settings, key = job
    with one_thread():
        rows = _cut_video(item, Path(out), qualities, settings)
    _write(_record(Path(out), item), json.dumps({"key": key, "rows": rows}, indent=1).encode())
    return rows


def _record(out, item):
    return out / "records" / item.manipulation / f"{item.name}.json"


def _stamp(path):
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns]


def _kept(record, key, out):
    """Rows of an earlier run, if it was made from the same files with the same settings and its crops are still there."""
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    if found.get("key") != key or not all((out / row["path"]).is_file() for row in found["rows"] if row["crops"]):
        return None
    return found["rows"]


def _cut_video(item, out, qualities, settings):
    rows = {
        quality: {
            "manipulation": item.manipulation, "video": item.name, "ids": "_".join(item.ids), "quality": quality, "label": item.label,
            "asked": settings["frames"], "crops": 0, "status": "failed", "reason": "", "source_sha256": "", "crops_sha256": "", "path": "",
        }
        for quality in qualities
    }  # fmt: skip
    for quality, row in rows.items():
        if quality in item.files:
            row["source_sha256"] = hashlib.sha256(item.files[quality].read_bytes()).hexdigest()
        else:
            row["reason"] = f"no {quality} file"
    if "raw" not in item.files:
        for row in rows.values():
            row["reason"] = "no raw file: the face cannot be found"
        return list(rows.values())
    try:
        boxes, shape, total = find_faces(item, settings)
    except (video.VideoError, OSError) as error:
        for row in rows.values():
            row["reason"] = row["reason"] or f"raw: {_plain(error, item.files['raw'])}"
        return list(rows.values())
    shortage = "" if len(boxes) == settings["frames"] else f"a face in {len(boxes)} of {total} frames"
    for quality, row in rows.items():
        if row["reason"]:
            continue
        if not boxes:
            row["reason"] = shortage
            continue
        try:
            crops = _cut_quality(item.files[quality], boxes, shape, total, settings)
        except (video.VideoError, OSError) as error:
            row["reason"] = _plain(error, item.files[quality])
            continue
        relative = Path("crops") / item.manipulation / quality / f"{item.name}.npy"
        _save(out / relative, crops)
        row.update(crops=len(crops), status="short" if shortage else "ok", reason=shortage, path=relative.as_posix())
        row["crops_sha256"] = hashlib.sha256(crops.tobytes()).hexdigest()
    return list(rows.values())


def _plain(error, path):
    """An error's text without the folder, which is the reader's own and has no place in a manifest."""
    return str(error).replace(str(path), Path(path).name)


def _save(path, crops):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            np.save(file, crops)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _count_frames(path):
    """Frames of a video, from its packets: nothing is decoded."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise video.VideoError(f"{path} holds no video stream")
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except av.FFmpegError as error:
        raise video.VideoError(
            f"{path} ({path.stat().st_size} bytes) cannot be read: {error.strerror}; fetch or make it again"
        ) from error


def frame_order(total, manipulation, name, seed):
    """All frame numbers of a video in the order in which they are tried; depends on nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}/{manipulation}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(total)


def find_faces(item, settings):
    """Boxes on the raw video: ({frame number: box}, (H, W), frames in the video), as many as asked where there are."""
    path = item.files["raw"]
    total = _count_frames(path)
    order = frame_order(total, item.manipulation, item.name, settings["seed"])
    boxes, tried, shape = {}, 0, None
    while len(boxes) < settings["frames"] and tried < total:
        wanted = set(order[tried : tried + settings["frames"] - len(boxes)].tolist())
        seen = 0
        for number, frame in enumerate(video.read_frames(path)):
            seen, shape = number + 1, frame.shape[:2]
            if number in wanted:
                box = faces.largest_face(frame, upsample=settings["upsample"])
                if box is not None:
                    boxes[number] = box
        if seen != total:
            raise video.VideoError(f"{path} announces {total} frames and gives {seen}; fetch or make it again")
        tried += len(wanted)
    return boxes, shape, total


def _cut_quality(path, boxes, shape, total, settings):
    """Crops (len(boxes), size, size, 3) of one quality, by frame number."""
    crops = []
    number = -1
    for number, frame in enumerate(video.read_frames(path)):
        if frame.shape[:2] != shape:
            raise video.VideoError(f"{path} has frames of {frame.shape[:2]}, raw of {shape}: the boxes do not fit")
        if number in boxes:
            crops.append(faces.crop(frame, boxes[number], settings["size"], settings["scale"]))
    if number + 1 != total:
        raise video.VideoError(f"{path} has {number + 1} frames, raw has {total}: they would not stay aligned")
    return np.stack(crops)
