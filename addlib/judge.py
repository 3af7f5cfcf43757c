"""What a detector says of one clip: a probability of fake for every face looked at, and for the whole."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from addlib import faces
from addlib.clips import open_clip
from addlib.files import project_root


class Judgement(NamedTuple):
    """What :func:`judge` returns.

    frames: a DataFrame, one row for each frame looked at: ``frame`` (number from 0), ``time`` (seconds, NaN if the file has
    none), ``left, top, right, bottom`` (box of the largest face in pixels) and ``probability`` of fake, NaN in all five where
    no face was found; ``people``, how many faces the frame shows. probability: the mean over the judged faces, NaN without
    one. faces: how many were judged, one a frame at most. crops: (faces, S, S, 3) uint8, what the detector was shown.
    """

    frames: pd.DataFrame
    probability: float
    faces: int
    crops: np.ndarray

    def verdict(self, threshold: float = 0.5) -> str:
        """One line: fake or real, by which threshold and how many faces, and what was left out."""
        answer = "fake" if self.probability > threshold else "real"
        answer = f"{answer}, probability of fake {self.probability:.3f} (threshold {threshold:g})"
        if not self.faces:
            answer = "not judged: no frontal face was found"
        several = int((self.frames["people"] > 1).sum())
        more = f"; more than one person in {several} of them, the largest face judged" if several else ""
        return f"{answer}, a face in {self.faces} of {len(self.frames)} frames{more}"


def judge(
    clip: str | Path, detector, *, frames: int = 64, shift: int = 0, size: int = 128, scale: float = 1.3, search: int | None = 480,
    upsample: int = 0, retry: int = 1,
) -> Judgement:  # fmt: skip
    """Judge the largest face in frames of a clip, evenly spread over its length.

    The probability is the detector's, as far as the clip is like those it was trained on: same manipulation, compression and
    kind of people. It is no evidence about a video of unknown origin (chapter 14).

    Args:
        clip: video file, picture, or folder of pictures. Raises as ``open_clip``.
        detector: of ``create_detector``, two classes, on any device; or a list of them, whose log odds are averaged (chapter 15).
        frames: how many to look at, fewer if the clip is shorter.
        shift: pixels that training took off the crops' sides (see ``Recipe``); the middle is taken.
        size, scale, search, upsample, retry: as for ``faceforensics.prepare``; a clip in which no face is found is searched
            again at double the scale, ``retry`` times.
    """
    from addlib.detectors.base import check_detectors

    detectors = detector if isinstance(detector, list) else [detector]
    check_detectors(*detectors)
    if frames < 1 or not 0 <= shift < size or retry < 0:
        raise ValueError(f"frames is {frames}, shift {shift}, retry {retry}; expected at least 1, 0 to {size - 1}, 0")
    source = open_clip(clip, any_names=True)
    wanted = source.numbers[np.unique(np.linspace(0, len(source.numbers) - 1, frames).round().astype(int))]
    for attempt in range(retry + 1):
        rows, crops = [], []
        for number, frame in source.frames(wanted.tolist()):
            found = faces.all_faces(frame, upsample=upsample + attempt, search=search)
            time = np.nan if source.times is None else source.times[number]
            rows.append((number, time, *(found[0] if found else [np.nan] * 4), len(found), np.nan))
            crops += [faces.crop(frame, box, size, scale) for box in found[:1]]
        if crops:
            break
    names = ["frame", "time", "left", "top", "right", "bottom", "people", "probability"]
    table, crops = pd.DataFrame(rows, columns=names), np.array(crops, np.uint8).reshape(-1, size, size, 3)
    if len(crops):
        import torch

        from addlib.training.prediction import answers

        batches = torch.from_numpy(crops).permute(0, 3, 1, 2).split(64)
        odds = torch.stack([answers(each, batches, shift, "32-true")[0] for each in detectors]).mean(0)
        if odds.isnan().any():
            raise ValueError(f"{clip}: the network answers no number to {int(odds.isnan().sum())} of {len(odds)} faces; train it again")
        table.loc[table["people"] > 0, "probability"] = odds.sigmoid().numpy()
    return Judgement(table, float(table["probability"].mean()), len(crops), crops)


def weights_file(name: str | Path) -> Path:
    """The file of weights meant by a path, or by the name of a training in data/runs; FileNotFoundError lists those there."""
    runs = Path("data/runs")
    with contextlib.suppress(FileNotFoundError):
        runs = project_root() / runs
    for path in (Path(name), Path(name, "weights.safetensors"), runs / name / "weights.safetensors"):
        if path.is_file():
            return path
    kept = sorted(path.parent.name for path in runs.glob("*/weights.safetensors"))
    known = "\n  ".join(["there are", *kept]) if kept else "there are none: train first, such as by addlib sweep smoke"
    raise FileNotFoundError(f"no weights at {name}; in {runs} {known}")


def shown(name: str | Path) -> str:
    """The name of a file as text that can be printed, also where it is in no UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def plot(judgements: Judgement | Mapping[str, Judgement], title: str = "", threshold: float = 0.5):
    """A figure of the probability of fake over time, the clip's as a line; several judgements by name, one panel each."""
    from matplotlib.figure import Figure

    named = {title: judgements} if isinstance(judgements, Judgement) else judgements
    figure = Figure(figsize=(7, 2.6 * len(named)), layout="constrained")
    for axis, (name, judgement) in zip(figure.subplots(len(named), squeeze=False)[:, 0], named.items(), strict=True):
        table = judgement.frames
        timed = table["time"].notna().all()
        axis.plot(table["time" if timed else "frame"], table["probability"], ".-", color="C0", label="each face")
        if judgement.faces:
            axis.axhline(judgement.probability, color="C1", label=f"mean, {judgement.probability:.2f}")
        axis.axhline(threshold, color="0.5", lw=1, ls=":")
        axis.set(ylim=(-0.03, 1.03), xlabel="seconds" if timed else "frame", ylabel="probability of fake")
        axis.set_title(shown(name), parse_math=False)
        axis.legend(fontsize=8)
    return figure
