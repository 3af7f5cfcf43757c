"""What the Makefile's targets leave and take, in a folder of their own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAININGS = "data/runs"
KEPT = ("data/FaceForensics++", "data/crops/FaceForensics++", "data/results", ".venv/bin", "addlib")
MADE = ("book/_build/html", "data/miniforensics", "data/crops/miniforensics-test", "data/miniforensics-more", "addlib/__pycache__")


@pytest.fixture
def make(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for file in ("requirements.lock", "pyproject.toml", "installed"):
        (tmp_path / file).touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return lambda *words: subprocess.run(["make", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("target, folder", [("data", ""), ("test-people", "-test"), ("more-people", "-more")])
def test_crops_are_not_cut_again_after_they_were_checked(make, target, folder):
    """``prepare`` leaves a manifest that is still right as it is; the rule says that it is newer than what it depends on."""
    assert make("-n", target).stdout.rstrip().endswith(f"touch data/crops/miniforensics{folder}/manifest.csv")


@pytest.mark.parametrize("verified", [0, 1])
def test_a_video_without_a_face_does_not_end_make(make, tmp_path, verified):
    """``prepare`` ends with 1 if it found no face in some of thousands of videos."""
    command = tmp_path / "bin/addlib"
    command.parent.mkdir()
    prepared = "[ $1 != prepare ] || { mkdir -p $3; touch $3/manifest.csv; exit 1; }"
    command.write_text(f"#!/bin/sh\n{prepared}\n[ $1 != verify ] || exit {verified}\n")
    command.chmod(0o755)
    assert (make("more-people", "BIN=bin", "STAMP=installed").returncode == 0) == (verified == 0)


@pytest.mark.parametrize("target, gone", [("clean", {*MADE}), ("clean-trainings", {*MADE, TRAININGS})])
def test_only_clean_trainings_removes_trained_networks(make, tmp_path, target, gone):
    folders = {*KEPT, *MADE, TRAININGS}
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "file").touch()
    assert make(target).returncode == 0
    assert {folder for folder in folders if not (tmp_path / folder / "file").exists()} == gone
