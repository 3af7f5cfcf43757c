"""The faces of one video: found once, on raw, and cut from every quality at the same boxes."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from .. import faces
from ..reading import VideoError
from . import alignment, timing
from .source import ImageSource, open_source

# A scale at which fewer frames than this show a face is too small a scale for the video.
ENOUGH = 1 / 8


@dataclass
class Found:
    """Faces of a raw video: {frame number: …} of boxes, crops, and thumbnails (the neighbours' too)."""

    upsample: int
    boxes: dict = field(default_factory=dict)
    crops: dict = field(default_factory=dict)
    thumbnails: dict = field(default_factory=dict)
    several: int = 0


def frame_order(total, manipulation, name, seed):
    """All frame numbers of a video in the order in which they are tried; depends on nothing but the arguments."""
    # surrogatepass: a file name that is no UTF-8 has a number order as well.
    digest = hashlib.sha256(f"{seed}/{manipulation}/{name}".encode(errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(total)


def cut_video(item, qualities, settings, save):
    """Manifest rows of one video, and whether they will stay so (False if reading failed in a way that may pass).

    item: a ``tree.Video``. qualities: those asked for. settings: of ``prepare``. save: called with quality and crops, uint8
    (N, size, size, 3); returns the path to put into the row.
    A damaged video becomes rows with reasons; only what ``save`` raises gets through.
    """
    rows = {quality: blank(item, quality, settings) for quality in qualities}
    lasting, sources, partners = True, {}, {}

    def fails(quality, error):
        nonlocal lasting
        lasting &= isinstance(error, VideoError)
        rows[quality]["reason"] = rows[quality]["reason"] or plain(error, item)

    for quality, row in rows.items():
        if quality not in item.files:
            row["reason"] = f"no {quality} file"
            continue
        try:
            row["source_sha256"] = _digest(item.files[quality])
            sources[quality] = open_source(item.files[quality])
        except (VideoError, OSError) as error:
            fails(quality, error)
    raw = sources.get("raw")
    if raw is None:
        known = "raw" in item.files
        reason = f"raw: {rows['raw']['reason']}" if known else "no raw file: the face cannot be found"
        for row in rows.values():
            row["reason"] = (row["reason"] or reason) if known else reason
        return list(rows.values()), lasting

    usable = set(raw.numbers.tolist())
    for quality, source in sources.items():
        if quality == "raw":
            continue
        try:
            partners[quality], rows[quality]["note"] = timing.match(raw, source)
        except VideoError as error:
            fails(quality, error)
    for pairing in partners.values():
        usable &= set(pairing)
    order = [n for n in frame_order(raw.total, item.manipulation, item.name, settings["seed"]).tolist() if n in usable]
    try:
        found = find_faces(raw, order, settings)
    except (VideoError, OSError) as error:
        lasting &= isinstance(error, VideoError)
        for quality, row in rows.items():
            row["reason"] = row["reason"] or ("" if quality == "raw" else "raw: ") + plain(error, item)
        return list(rows.values()), lasting

    shortage = "" if len(found.boxes) == settings["frames"] else f"a face in {len(found.boxes)} of {len(order)} frames"
    for quality, row in rows.items():
        if row["reason"]:
            continue
        if not found.boxes:
            row["reason"] = shortage
            continue
        try:
            if quality == "raw":
                crops = np.stack([found.crops[number] for number in sorted(found.crops)])
            else:
                crops = cut_quality(sources[quality], partners[quality], found, raw.size, settings)
        except (VideoError, OSError) as error:
            fails(quality, error)
            continue
        path = save(quality, crops)
        row.update(crops=len(crops), status="short" if shortage else "ok", reason=shortage, path=path)
        row["crops_sha256"] = hashlib.sha256(crops.tobytes()).hexdigest()
        row["note"] = "; ".join(filter(None, [row["note"], *_remarks(sources[quality], found, settings)]))
    return list(rows.values()), lasting


def blank(item, quality, settings):
    """A manifest row, without split, of a quality that gave nothing so far."""
    return {
        "manipulation": item.manipulation, "video": item.name, "ids": "_".join(item.ids), "quality": quality, "label": item.label,
        "asked": settings["frames"], "crops": 0, "status": "failed", "reason": "", "source_sha256": "", "crops_sha256": "", "path": "",
        "note": "",
    }  # fmt: skip


def _remarks(source, found, settings):
    if isinstance(source, ImageSource):
        yield "from extracted images"
    if found.upsample > settings["upsample"]:
        yield f"faces found at upsample {found.upsample}"
    if found.several:
        yield f"several faces in {found.several} frames, the largest kept"


def _digest(path):
    if path.is_dir():
        return open_source(path).sha256()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no regular file, or a link to nothing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(error, item):
    """An error's text without the folders, which are the reader's own and have no place in a manifest."""
    text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)
    for path in item.files.values():
        text = text.replace(f"{path}/", "").replace(str(path), path.name)
    return text


def find_faces(raw, order, settings):
    """Found on a raw source, with as many boxes as asked for where there are.

    order: frame numbers, tried in this order until settings["frames"] show a face. The first so many are searched at scale
    settings["upsample"]; if hardly any shows a face, all begins anew a scale up, settings["retry"] times at most.
    Raises VideoError for a file that breaks off or whose frames change size.
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


def _search(raw, wanted, found, settings):
    """One pass over the source: faces of the wanted frames, thumbnails of them and of their neighbours."""
    there = set(raw.numbers.tolist())
    near = {number + step for number in wanted for step in (-1, 0, 1)} & there
    for number, picture in raw.pictures(near):
        if number in wanted:
            frame = picture.rgb()
            _same_size(raw.path, frame, raw.size, "announces")
            boxes = faces.all_faces(frame, upsample=found.upsample, search=settings["search"])
            if boxes:
                found.boxes[number] = boxes[0]
                found.crops[number] = faces.crop(frame, boxes[0], settings["size"], settings["scale"])
                found.several += len(boxes) > 1
        found.thumbnails[number] = picture.thumbnail(alignment.THUMBNAIL)


def cut_quality(source, partner, found, size, settings):
    """Crops (N, S, S, 3) of one quality at raw's boxes, in raw's order.

    partner: {raw frame number: the source's}. size: (height, width) of raw.
    Raises VideoError for frames of another size, and where the pictures show another moment than raw's.
    """
    raw_number = {partner[number]: number for number in found.boxes}
    crops, thumbnails = {}, {}
    for number, picture in source.pictures(raw_number):
        frame, own = picture.rgb(), raw_number[number]
        _same_size(source.path, frame, size, "of raw has")
        crops[own] = faces.crop(frame, found.boxes[own], settings["size"], settings["scale"])
        thumbnails[own] = picture.thumbnail(alignment.THUMBNAIL)
    offset = alignment.other_moment(thumbnails, found.thumbnails)
    if offset:
        raise VideoError(
            f"{source.path} shows other moments than raw, about {abs(offset)} frames {'later' if offset > 0 else 'earlier'} under the "
            "same number; fetch or make it again"
        )
    return np.stack([crops[number] for number in sorted(crops)])


def _same_size(path, frame, size, whose):
    if frame.shape[:2] != tuple(size):
        raise VideoError(
            f"{path} has a frame of {frame.shape[:2]}, where it {whose} {tuple(size)}: the boxes do not fit"
        )
