"""The page "How to use your own FaceForensics++" gives sizes and hours: here they are calculated again, as it says."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from addlib.detectors import create_detector
from addlib.sweep import read_grid
from addlib.training import Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "book" / "how-to-your-own-faceforensics.md").read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")
TRAINING, VALIDATION = 2 * 720 * 64, 2 * 140 * 64  # crops of one manipulation and its real videos
RATE = 20e12  # operations a second


def operations(detector: str) -> float:
    """Of one crop of 128 pixels, forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        create_detector(detector).eval()(torch.zeros(1, 3, 128, 128))
    return counter.get_total_flops()


def hours(runs, per_crop) -> float:
    recipe, total = Recipe.named("paper"), 0
    for run in runs:
        passes = 3 + (run.teacher is not None)  # forward, twice that backward; and the teacher's forward
        total += recipe.epochs * (TRAINING * passes + recipe.validations * VALIDATION) * per_crop[run.detector]
    return total / RATE / 3600


def test_trainings_and_hours_of_the_grids():
    grids = {path.stem: read_grid(path) for path in (ROOT / "book" / "experiments" / "grids").glob("paper-*.yaml")}
    others = {name: runs for name, (about, runs) in grids.items() if about["notebook"] != "train"}
    grids = {name: runs for name, (_, runs) in grids.items() if name not in others}
    per_crop = {detector: operations(detector) for detector in {run.detector for runs in grids.values() for run in runs}}
    rows = re.findall(r"^\| `(paper-\w+)`.*\| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.M)
    assert {name: int(count) for name, count, _ in rows} == {name: len(runs) for name, runs in grids.items()}
    for name, _, told in rows:
        assert int(told) == pytest.approx(hours(grids[name], per_crop), rel=0.06), name
    everything = {run for runs in grids.values() for run in runs}
    ((count, told),) = re.findall(r"^\| all (\d+) trainings .* (\d+) H100 hours", PAGE, re.M)
    assert (int(count), int(told)) == (len(everything), round(hours(everything, per_crop)))
    measuring = re.findall(r"`(paper-\w+)` [^`]*?\((\d+) runs\)", PAGE)
    assert {name: int(count) for name, count in measuring} == {name: len(runs) for name, runs in others.items()}


def test_crops_and_their_disk():
    sides, qualities = 128 * 128 * 3, 3
    assert f"{TRAINING:,} crops to train on" in PAGE and f"{VALIDATION:,} to validate on" in PAGE
    assert f"a video in three qualities {64 * qualities * sides / 1e6:.1f} MB" in PAGE
    (five, one) = (int(each) for each in re.findall(r"^\| crops, .*? \| (\d+) GB", PAGE, re.M))
    assert five == round(6000 * 64 * qualities * sides / 1e9) and one == round(2000 * 64 * qualities * sides / 1e9)
