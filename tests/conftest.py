"""Small data that many tests share, made once a session."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from addlib import faceforensics, miniforensics


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
