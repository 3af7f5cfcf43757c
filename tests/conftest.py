"""Small data that many tests share, made once a session."""

import os

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from addlib import faceforensics, miniforensics, video


@pytest.fixture(scope="session")
def walk():
    """Twelve frames (224, 224, 3) of a drawn face that moves three pixels a frame, with a little noise."""
    still = miniforensics.render_video(3, 0, 1, 1)["original"][0]
    rng = np.random.default_rng(0)
    moved = [np.roll(still, 3 * step - 18, axis=1).astype(int) for step in range(12)]
    return [np.clip(frame + rng.integers(-2, 3, frame.shape), 0, 255).astype(np.uint8) for frame in moved]


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Ten frames of a drawn face, alone in a folder."""
    path = tmp_path_factory.mktemp("clip") / "one.mp4"
    video.write_video(path, miniforensics.render_video(0, 0, 1, 10)["original"], crf=23)
    return path


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """An FF++ tree of 8 drawn people, 3 frames a video."""
    return miniforensics.generate(tmp_path_factory.mktemp("tree") / "mini", people=8, frames=3, seed=3, workers=1)


@pytest.fixture(scope="session")
def prepared(tree, tmp_path_factory):
    """Its crops and manifest."""
    out = tmp_path_factory.mktemp("crops")
    faceforensics.prepare(tree, out, frames=2, workers=1)
    return out
