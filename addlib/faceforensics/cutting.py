"""The faces of one video: found once, on raw, and cut from every quality at the same boxes."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from addlib import faces
from addlib.clips import PictureClip, open_clip
from addlib.video import VideoError

from .matching import Clip, match, other_moment, thumbnail
from .tree import Video

# A scale at which fewer frames than this show a face is too small a scale for the video.
ENOUGH = 1 / 8


def frame_order(total: int, manipulation: str, name: str, seed: int) -> np.ndarray:
    """All frame numbers of a video in the order in which they are tried; depends on nothing but the arguments."""
    # surrogatepass: a file name that is no UTF-8 has a number order as well.
    digest = hashlib.sha256(f"{seed}/{manipulation}/{name}".encode(errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(total)


def cut_video(item: Video, settings: dict) -> tuple[list[dict], dict[str, np.ndarray], dict[int, faces.Box], bool]:
    """Cut one video in all of settings["qualities"]; a damaged one becomes rows with reasons.

    Returns manifest rows, crops (N, S, S, 3) by quality, boxes by raw's frame number, and whether a second try would end alike.
    """
    rows = {quality: blank_row(item, quality, settings) for quality in sorted(settings["qualities"], key="raw".__ne__)}
    clips, partners, crops, boxes, lasting = {}, {}, {}, {}, True

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
            row["source_sha256"] = _sha256(clip)
            partners[quality], row["note"] = match(clips.get("raw", clip), clip)
            clips[quality] = clip
    if raw := clips.get("raw"):
        usable = set.intersection(*map(set, partners.values()))
        order = frame_order(raw.total, item.manipulation, item.name, settings["seed"]).tolist()
        order = [number for number in order if number in usable]
        with listed("raw"):
            upsample, boxes, crops["raw"], thumbnails = find_faces(raw, order, settings)
    count, several = len(boxes), sum(len(each) > 1 for each in boxes.values())
    shortage = f"a face in {count} of {len(order)} frames" if raw and count < settings["frames"] else ""
    without = f"raw: {rows['raw']['reason']}" if rows["raw"]["reason"] else "" if count else shortage
    for quality, row in rows.items():
        row["reason"] = row["reason"] or without
        if row["reason"]:
            continue
        with listed(quality):
            if quality != "raw":
                crops[quality] = cut_quality(clips[quality], partners[quality], boxes, thumbnails, raw.size, settings)
            crops[quality] = np.stack([crops[quality][number] for number in sorted(boxes)])
            row |= {"crops": count, "status": "short" if shortage else "ok", "reason": shortage}
            row["crops_sha256"] = hashlib.sha256(crops[quality].tobytes()).hexdigest()
            notes = {
                row["note"]: row["note"],
                "from extracted images": isinstance(clips[quality], PictureClip),
                f"faces found at upsample {upsample}": upsample > settings["upsample"],
                f"several faces in {several} frames, the largest kept": several,
            }
            row["note"] = "; ".join(note for note, holds in notes.items() if holds)
    return list(rows.values()), crops, {number: boxes[number][0] for number in sorted(boxes)}, lasting


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


def _sha256(clip: Clip) -> str:
    if isinstance(clip, PictureClip):
        return clip.sha256()
    with clip.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_faces(raw: Clip, order: Sequence[int], settings: dict) -> tuple[int, dict, dict, dict]:
    """Faces in settings["frames"] frames, tried in the given order; a scale up where hardly any of the first shows a face.

    Returns the scale and, by frame number, all boxes, the crop of the largest, and thumbnails, of the neighbours too.
    """
    largest = settings["upsample"] + settings["retry"]
    for upsample in range(settings["upsample"], largest + 1):
        boxes, crops, thumbnails, tried = {}, {}, {}, 0
        while wanted := set(order[tried : tried + settings["frames"] - len(boxes)]):
            near = {number + step for number in wanted for step in (-1, 0, 1)}.intersection(raw.numbers.tolist())
            for number, frame in _frames(raw, near, raw.size):
                thumbnails[number] = thumbnail(frame)
                if number in wanted and (found := faces.all_faces(frame, upsample=upsample, search=settings["search"])):
                    boxes[number] = found
                    crops[number] = faces.crop(frame, found[0], settings["size"], settings["scale"])
            tried += len(wanted)
            if upsample < largest and len(boxes) < ENOUGH * tried:
                break
        else:
            break
    return upsample, boxes, crops, thumbnails


def cut_quality(clip: Clip, partner: dict, boxes: dict, raw: dict, size: tuple, settings: dict) -> dict:
    """Crops of one quality by raw's frame number, from the frames that ``partner`` gives for raw's; ``raw``: its thumbnails."""
    raw_number = {partner[number]: number for number in boxes}
    crops, thumbnails = {}, {}
    for number, frame in _frames(clip, raw_number, size):
        own = raw_number[number]
        crops[own] = faces.crop(frame, boxes[own][0], settings["size"], settings["scale"])
        thumbnails[own] = thumbnail(frame)
    if offset := other_moment(thumbnails, raw):
        late = f"about {abs(offset)} frames {'later' if offset > 0 else 'earlier'} under the same number"
        raise VideoError(f"{clip.path} shows other moments than raw, {late}; fetch or make it again")
    return crops


def _frames(clip: Clip, wanted: Iterable[int], size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    for number, frame in clip.frames(wanted):
        if frame.shape[:2] != tuple(size):
            raise VideoError(f"{clip.path} has a frame of {frame.shape[:2]}, raw of {tuple(size)}: boxes do not fit")
        yield number, frame
