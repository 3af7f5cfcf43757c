"""The faces of one video: found once, on raw, and cut from every quality at the same boxes."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from addlib import faces
from addlib.clips import PictureClip, open_clip
from addlib.video import VideoError

from .matching import Clip, match, other_moment, thumbnail
from .tree import Video

# A scale at which fewer frames than this show a face is too small a scale for the video.
ENOUGH = 1 / 8


class Cut(NamedTuple):
    """What ``cut_video`` gives.

    rows: of the manifest, without split and path. crops: {quality: (N, size, size, 3) uint8}. boxes: {raw frame number: box}.
    lasting: whether a second try would end the same way.
    """

    rows: list[dict]
    crops: dict[str, np.ndarray]
    boxes: dict[int, faces.Box]
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


def cut_video(item: Video, qualities: Sequence[str], settings: dict) -> Cut:
    """Crops of one video in all qualities, raw among them. A damaged video becomes rows with reasons."""
    rows = {quality: blank_row(item, quality, settings) for quality in sorted(qualities, key="raw".__ne__)}
    clips, partners, crops, lasting = {}, {}, {}, True

    @contextlib.contextmanager
    def listed(quality: str) -> Iterator[None]:
        nonlocal lasting
        try:
            yield
        except (VideoError, OSError) as error:
            lasting &= isinstance(error, VideoError)  # anything else, such as a disk that does not answer, may pass
            rows[quality]["reason"] = reason(error, item)

    for quality, row in rows.items():
        with listed(quality):
            if quality not in item.files:
                raise VideoError(f"no {quality} file")
            clip = open_clip(item.files[quality])
            row["source_sha256"] = clip.sha256()
            partners[quality], row["note"] = match(clips.get("raw", clip), clip)
            clips[quality] = clip
    found, order = Found(0), []
    with listed("raw"):
        if raw := clips.get("raw"):
            usable = set.intersection(*map(set, partners.values()))
            order = frame_order(raw.total, item.manipulation, item.name, settings["seed"]).tolist()
            order = [number for number in order if number in usable]
            found = find_faces(raw, order, settings)
    shortage = "" if len(found.boxes) == settings["frames"] else f"a face in {len(found.boxes)} of {len(order)} frames"
    without = f"raw: {rows['raw']['reason']}" if rows["raw"]["reason"] else "" if found.boxes else shortage
    for quality, row in rows.items():
        row["reason"] = row["reason"] or without
        if row["reason"]:
            continue
        with listed(quality):
            cut = found.crops if quality == "raw" else cut_quality(clips[quality], partners[quality], found, raw, settings)
            crops[quality] = np.stack([cut[number] for number in sorted(cut)])
            row |= {"crops": len(cut), "status": "short" if shortage else "ok", "reason": shortage}
            row["crops_sha256"] = hashlib.sha256(crops[quality].tobytes()).hexdigest()
            notes = {
                row["note"]: row["note"],
                "from extracted images": isinstance(clips[quality], PictureClip),
                f"faces found at upsample {found.upsample}": found.upsample > settings["upsample"],
                f"several faces in {found.several} frames, the largest kept": found.several,
            }
            row["note"] = "; ".join(note for note, holds in notes.items() if holds)
    return Cut(list(rows.values()), crops, dict(sorted(found.boxes.items())), lasting)


def blank_row(item: Video, quality: str, settings: dict, reason: str = "") -> dict:
    """A manifest row, without split, of a quality that gave nothing."""
    return {
        "manipulation": item.manipulation, "video": item.name, "ids": "_".join(item.ids), "quality": quality,
        "label": item.label, "asked": settings["frames"], "crops": 0, "status": "failed", "reason": reason,
        "source_sha256": "", "crops_sha256": "", "path": "", "note": "",
    }  # fmt: skip


def reason(error: Exception | str, item: Video) -> str:
    """An error's text without the folders, which are the reader's own and have no place in a manifest."""
    text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)
    for path in item.files.values():
        text = text.replace(f"{path}/", "").replace(str(path), path.name)
    return text


def find_faces(raw: Clip, order: Sequence[int], settings: dict) -> Found:
    """As many boxes on raw as asked for, where there are.

    Frame numbers are tried in the given order until settings["frames"] show a face. The first so many are searched at scale
    settings["upsample"]; if hardly any shows a face, all begins anew a scale up, settings["retry"] times at most.

    Raises:
        VideoError: for a file that breaks off or whose frames change size.
    """
    largest = settings["upsample"] + settings["retry"]
    for upsample in range(settings["upsample"], largest + 1):
        found, tried = Found(upsample), 0
        while wanted := set(order[tried : tried + settings["frames"] - len(found.boxes)]):
            near = {number + step for number in wanted for step in (-1, 0, 1)}.intersection(raw.numbers.tolist())
            for number, frame in _frames(raw, near, raw.size):
                found.thumbnails[number] = thumbnail(frame)
                boxes = faces.all_faces(frame, upsample=upsample, search=settings["search"]) if number in wanted else []
                if boxes:
                    found.boxes[number] = boxes[0]
                    found.crops[number] = faces.crop(frame, boxes[0], settings["size"], settings["scale"])
                    found.several += len(boxes) > 1
            tried += len(wanted)
            if upsample < largest and len(found.boxes) < ENOUGH * tried:
                break
        else:
            break
    return found


def cut_quality(clip: Clip, partner: dict[int, int], found: Found, raw: Clip, settings: dict) -> dict[int, np.ndarray]:
    """Crops of one quality at raw's boxes, by raw's frame number, of the frames that ``partner`` gives for raw's.

    Raises:
        VideoError: for frames of another size, and where the pictures show another moment than raw's.
    """
    raw_number = {partner[number]: number for number in found.boxes}
    crops, thumbnails = {}, {}
    for number, frame in _frames(clip, raw_number, raw.size):
        own = raw_number[number]
        crops[own] = faces.crop(frame, found.boxes[own], settings["size"], settings["scale"])
        thumbnails[own] = thumbnail(frame)
    if offset := other_moment(thumbnails, found.thumbnails):
        late = f"about {abs(offset)} frames {'later' if offset > 0 else 'earlier'} under the same number"
        raise VideoError(f"{clip.path} shows other moments than raw, {late}; fetch or make it again")
    return crops


def _frames(clip: Clip, wanted: Iterable[int], size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    for number, picture in clip.pictures(wanted):
        frame = picture.rgb()
        if frame.shape[:2] != tuple(size):
            raise VideoError(f"{clip.path} has a frame of {frame.shape[:2]}, raw is {tuple(size)}: the boxes do not fit")
        yield number, frame
