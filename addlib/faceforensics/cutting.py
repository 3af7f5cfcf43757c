"""The faces of one video: found once, on raw, and cut from every quality at the same boxes."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from addlib import faces
from addlib.clips import PictureClip, VideoClip, open_clip
from addlib.video import VideoError

from .matching import match, other_moment, thumbnail
from .tree import Video

# A scale at which fewer frames than this show a face is too small a scale for the video.
ENOUGH = 1 / 8
Clip = VideoClip | PictureClip


class Cut(NamedTuple):
    """What ``cut_video`` gives: manifest rows, {raw frame number: box}, and whether a second try would end the same way."""

    rows: list[dict]
    boxes: dict[int, tuple[int, int, int, int]]
    lasting: bool


@dataclass
class Found:
    """Faces of a raw video: {frame number: …} of boxes, crops, and thumbnails (the neighbours' too)."""

    upsample: int
    boxes: dict = field(default_factory=dict)
    crops: dict = field(default_factory=dict)
    thumbnails: dict = field(default_factory=dict)
    several: int = 0


def frame_order(total: int, manipulation: str, name: str, seed: int) -> np.ndarray:
    """All frame numbers of a video in the order in which they are tried; depends on nothing but the arguments."""
    # surrogatepass: a file name that is no UTF-8 has a number order as well.
    digest = hashlib.sha256(f"{seed}/{manipulation}/{name}".encode(errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(total)


def cut_video(item: Video, qualities: Sequence[str], settings: dict, save: Callable[[str, np.ndarray], str]) -> Cut:
    """Crops of one video in all qualities. A damaged video becomes rows with reasons; only what ``save`` raises gets through.

    ``save`` is called with quality and crops, uint8 (N, size, size, 3), and returns the path to put into the row.
    """
    rows = {quality: blank_row(item, quality, settings) for quality in qualities}
    lasting, opened, partners = True, {}, {}

    def fails(quality: str, error: Exception) -> None:
        nonlocal lasting
        lasting &= isinstance(error, VideoError)  # anything else, such as a disk that does not answer, may pass
        rows[quality]["reason"] = rows[quality]["reason"] or reason(error, item)

    def without_raw(why: str) -> Cut:
        for quality, row in rows.items():
            row["reason"] = row["reason"] or ("" if quality == "raw" else "raw: ") + why
        return Cut(list(rows.values()), {}, lasting)

    for quality in sorted(rows, key=lambda quality: quality != "raw"):
        row = rows[quality]
        try:
            if quality not in item.files:
                raise VideoError(f"no {quality} file")
            row["source_sha256"] = _sha256(item.files[quality])
            opened[quality] = open_clip(item.files[quality])
            if quality != "raw" and "raw" in opened:
                partners[quality], row["note"] = match(opened["raw"], opened[quality])
        except (VideoError, OSError) as error:
            fails(quality, error)
    raw = opened.get("raw")
    if raw is None:
        return without_raw(rows["raw"]["reason"])
    usable = set(raw.numbers.tolist()).intersection(*partners.values())
    order = [n for n in frame_order(raw.total, item.manipulation, item.name, settings["seed"]).tolist() if n in usable]
    try:
        found = find_faces(raw, order, settings)
    except (VideoError, OSError) as error:
        fails("raw", error)
        return without_raw(rows["raw"]["reason"])

    shortage = "" if len(found.boxes) == settings["frames"] else f"a face in {len(found.boxes)} of {len(order)} frames"
    for quality, row in rows.items():
        if not found.boxes:
            row["reason"] = row["reason"] or shortage
        if row["reason"]:
            continue
        try:
            if quality == "raw":
                crops = np.stack([found.crops[number] for number in sorted(found.crops)])
            else:
                crops = cut_quality(opened[quality], partners[quality], found, raw.size, settings)
        except (VideoError, OSError) as error:
            fails(quality, error)
            continue
        row.update(crops=len(crops), status="short" if shortage else "ok", reason=shortage, path=save(quality, crops))
        row["crops_sha256"] = hashlib.sha256(crops.tobytes()).hexdigest()
        row["note"] = "; ".join(filter(None, [row["note"], *_remarks(opened[quality], found, settings)]))
    return Cut(list(rows.values()), dict(sorted(found.boxes.items())), lasting)


def blank_row(item: Video, quality: str, settings: dict, reason: str = "") -> dict:
    """A manifest row, without split, of a quality that gave nothing."""
    return {
        "manipulation": item.manipulation, "video": item.name, "ids": "_".join(item.ids), "quality": quality, "label": item.label,
        "asked": settings["frames"], "crops": 0, "status": "failed", "reason": reason, "source_sha256": "", "crops_sha256": "",
        "path": "", "note": "",
    }  # fmt: skip


def _remarks(clip: Clip, found: Found, settings: dict) -> Iterable[str]:
    if isinstance(clip, PictureClip):
        yield "from extracted images"
    if found.upsample > settings["upsample"]:
        yield f"faces found at upsample {found.upsample}"
    if found.several:
        yield f"several faces in {found.several} frames, the largest kept"


def _sha256(path: Path) -> str:
    if path.is_dir():
        return open_clip(path).sha256()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no regular file, or a link to nothing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: Exception | str, item: Video) -> str:
    """An error's text without the folders, which are the reader's own and have no place in a manifest."""
    text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)
    for path in item.files.values():
        text = text.replace(f"{path}/", "").replace(str(path), path.name)
    return text


def find_faces(raw: Clip, order: Sequence[int], settings: dict) -> Found:
    """As many boxes on raw as asked for, where there are.

    Frame numbers are tried in the given order until settings["frames"] show a face. The first so many are searched at scale
    settings["upsample"]; if hardly any shows a face, all begins anew a scale up, settings["retry"] times at most. Raises
    VideoError for a file that breaks off or whose frames change size.
    """
    largest = settings["upsample"] + settings["retry"]
    for upsample in range(settings["upsample"], largest + 1):
        found, tried = Found(upsample), 0
        while len(found.boxes) < settings["frames"] and tried < len(order):
            wanted = order[tried : tried + settings["frames"] - len(found.boxes)]
            _search(raw, set(wanted), found, settings)
            tried += len(wanted)
            if upsample < largest and len(found.boxes) < ENOUGH * tried:
                break
        else:
            break
    return found


def _search(raw: Clip, wanted: set[int], found: Found, settings: dict) -> None:
    """One pass over raw: faces of the wanted frames, thumbnails of them and of their neighbours."""
    near = {number + step for number in wanted for step in (-1, 0, 1)} & set(raw.numbers.tolist())
    for number, frame in raw.frames(near):
        _same_size(raw, frame, raw.size, "announces")
        if number in wanted:
            boxes = faces.all_faces(frame, upsample=found.upsample, search=settings["search"])
            if boxes:
                found.boxes[number] = boxes[0]
                found.crops[number] = faces.crop(frame, boxes[0], settings["size"], settings["scale"])
                found.several += len(boxes) > 1
        found.thumbnails[number] = thumbnail(frame)


def cut_quality(
    clip: Clip, partner: dict[int, int], found: Found, size: tuple[int, int], settings: dict
) -> np.ndarray:
    """Crops (N, S, S, 3) of one quality at raw's boxes, in raw's order, of the frames that ``partner`` gives for raw's.

    Raises VideoError for frames of another size, and where the pictures show another moment than raw's.
    """
    raw_number = {partner[number]: number for number in found.boxes}
    crops, thumbnails = {}, {}
    for number, frame in clip.frames(raw_number):
        own = raw_number[number]
        _same_size(clip, frame, size, "of raw has")
        crops[own] = faces.crop(frame, found.boxes[own], settings["size"], settings["scale"])
        thumbnails[own] = thumbnail(frame)
    offset = other_moment(thumbnails, found.thumbnails)
    if offset:
        raise VideoError(
            f"{clip.path} shows other moments than raw, about {abs(offset)} frames {'later' if offset > 0 else 'earlier'} under the "
            "same number; fetch or make it again"
        )
    return np.stack([crops[number] for number in sorted(crops)])


def _same_size(clip: Clip, frame: np.ndarray, size: tuple[int, int], whose: str) -> None:
    if (found := frame.shape[:2]) != tuple(size):
        raise VideoError(f"{clip.path} has a frame of {found}, where it {whose} {tuple(size)}: the boxes do not fit")
