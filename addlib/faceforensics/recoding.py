"""The crops of one video as they would be if it had come under another condition: same frames, same boxes, other coding."""

import json
from pathlib import Path

import numpy as np

from addlib import codecs, faces, provenance
from addlib.clips import PictureClip, VideoClip, open_clip

from .tree import Video


def recode_video(item: Video, out: Path, condition: str) -> tuple[np.ndarray, float]:
    """Encode a whole raw video under a condition of ``addlib.codecs``, and cut its faces where ``prepare`` found them.

    Returns crops (N, S, S, 3) uint8, ascending by frame, and kilobits a second. Raises FileNotFoundError without a raw file or
    a record of the boxes in ``out``, ValueError where raw gives other crops than ``out`` holds.
    """
    path = item.record(out)
    if not path.is_file() or "boxes" not in (record := json.loads(path.read_text())):
        raise FileNotFoundError(f"no boxes in {path}; prepare the folder again")
    if "raw" not in item.files:
        raise FileNotFoundError(f"no raw file of {item.manipulation}/{item.name} to encode under {condition!r}")
    raw = open_clip(item.files["raw"])
    place = {number: index for index, number in enumerate(raw.numbers.tolist())}
    boxes = {place.get(int(number), -1): box for number, box in record["boxes"].items()}
    size, scale, originals = record["key"]["size"], record["key"]["scale"], {}

    def frames():
        for index, (_, frame) in enumerate(raw.frames(list(place))):
            if index in boxes:
                originals[index] = faces.crop(frame, boxes[index], size, scale)
            yield frame

    seen = codecs.recode(frames(), condition, fps=frames_a_second(raw), wanted=set(boxes) - {-1})
    kept = np.load(out / "crops" / item.manipulation / "raw" / f"{item.name}.npy")
    if not np.array_equal([originals[index] for index in boxes if index in originals], kept):
        raise ValueError(
            f"{item.files['raw']} gives other crops than {out} holds; name the tree that it was prepared from, or prepare it again"
        )
    return np.stack([faces.crop(seen.frames[index], box, size, scale) for index, box in boxes.items()]), seen.kbits


def made_with(condition: str) -> str:
    """12 hex digits of what decides the bytes of crops under a condition: steps, encoder settings, code and libraries."""
    steps = codecs.parse(condition)
    encoders = [[c.encoder, c.options] for c in (codecs.CODECS.get(name) for name, _ in steps) if c]
    libraries = [provenance.versions().get(name) for name in ("numpy", "opencv", "av")]
    return provenance.digest([steps, encoders, libraries, provenance.code_hash(__name__)])


def frames_a_second(clip: VideoClip | PictureClip) -> float:
    """By the median distance of two frames; 25 where there are no times."""
    if clip.times is None or len(clip.times) < 2:
        return 25.0
    return float(1 / np.median(np.diff(clip.times)))
