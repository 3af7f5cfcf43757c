"""What a detector says of one video: a probability of fake for every face looked at, and for the video."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from addlib import faces
from addlib.faceforensics.source import open_source


class Judgement(NamedTuple):
    """What :func:`judge` returns.

    frames: a DataFrame, one row for each frame looked at: ``frame`` (number from 0), ``time`` (seconds, NaN if the file has
    none), ``left, top, right, bottom`` (box of the largest face in pixels) and ``probability`` of fake, NaN in all five where
    no face was found. probability: of the video, the mean over its faces, NaN without a face.
    faces: how many frames show one. crops: (faces, S, S, 3) uint8, what the detector was shown.
    """

    frames: pd.DataFrame
    probability: float
    faces: int
    crops: np.ndarray


def judge(video, detector, *, frames=64, shift=0, size=128, scale=1.3, search=480, upsample=0, retry=1) -> Judgement:
    """Judge the largest face in frames of a video, evenly spread over its length.

    video: a file, or a folder of images named by frame number. detector: of ``create_detector``, two classes, on any device.
    frames: how many to look at, fewer if the video is shorter. shift: pixels that training took off the crops' sides (see
    ``Recipe``); the middle is taken. size, scale, search, upsample, retry: as for ``faceforensics.prepare``; a video in which
    no face is found is searched again at double the scale, ``retry`` times.

    The probability is the detector's, as far as the video is like those it was trained on: same manipulation, compression and
    kind of people. It is no evidence about a video of unknown origin (chapter 14).
    Raises FileNotFoundError, VideoError for a file that is no video, ValueError for settings out of range.
    """
    if getattr(detector, "num_classes", None) != 2:
        raise ValueError(f"detector is a {type(detector).__name__}; expected one of create_detector with two classes")
    if frames < 1 or not 0 <= shift < size or retry < 0:
        raise ValueError(f"frames is {frames}, shift {shift}, retry {retry}; expected at least 1, 0 to {size - 1}, 0")
    source = open_source(Path(video))
    places = np.unique(np.linspace(0, len(source.numbers) - 1, min(frames, len(source.numbers))).round().astype(int))
    wanted = source.numbers[places]
    boxes, crops = {}, {}
    for attempt in range(retry + 1):
        for number, picture in source.pictures(set(wanted.tolist())):
            frame = picture.rgb()
            box = faces.largest_face(frame, upsample=upsample + attempt, search=search)
            if box is not None:
                boxes[number], crops[number] = box, faces.crop(frame, box, size, scale)
        if boxes:
            break
    times = np.full(len(wanted), np.nan) if source.times is None else np.asarray(source.times)[places]
    table = pd.DataFrame({"frame": wanted, "time": times})
    for index, edge in enumerate(("left", "top", "right", "bottom")):
        table[edge] = [boxes[number][index] if number in boxes else np.nan for number in wanted]
    shown = np.stack([crops[number] for number in sorted(crops)]) if crops else np.zeros((0, size, size, 3), np.uint8)
    table["probability"] = np.nan
    table.loc[table["left"].notna(), "probability"] = _probabilities(shown, detector, shift)
    return Judgement(table, float(table["probability"].mean()), len(shown), shown)


def plot(judgement: Judgement, title: str = ""):
    """A figure: the probability of fake over time, the video's as a line. Returns matplotlib's figure."""
    from matplotlib.figure import Figure

    table = judgement.frames
    timed = table["time"].notna().all()
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(table["time" if timed else "frame"], table["probability"], ".-", color="C0", label="each face")
    if judgement.faces:
        axis.axhline(judgement.probability, color="C1", label=f"video, {judgement.probability:.2f}")
    axis.axhline(0.5, color="0.5", lw=1, ls=":")
    axis.set(ylim=(-0.03, 1.03), xlabel="seconds" if timed else "frame", ylabel="probability of fake", title=title)
    axis.legend(fontsize=8)
    return figure


def _probabilities(crops, detector, shift, batch_size=64):
    """Of fake, (N,) for uint8 crops (N, S, S, 3), in evaluation mode."""
    import torch

    from addlib.detectors import normalisation
    from addlib.training.task import centre

    mean, std = normalisation(detector.name)
    device = next(detector.parameters()).device
    was_training = detector.training
    detector.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(crops), batch_size):
            batch = torch.from_numpy(crops[start : start + batch_size]).permute(0, 3, 1, 2)
            logits = detector((centre(batch, shift).to(device).float() / 255 - mean) / std).logits.double()
            found.append((logits[:, 1] - logits[:, 0]).sigmoid().cpu().numpy())
    detector.train(was_training)
    return np.concatenate(found) if found else np.zeros(0)
