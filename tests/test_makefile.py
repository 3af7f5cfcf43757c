"""What cleaning takes and leaves, by the Makefile in a folder of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAININGS = "data/runs"
KEPT = ("data/FaceForensics++", "data/crops/FaceForensics++", "data/results", ".venv/bin", "addlib")
MADE = ("book/_build/html", "data/miniforensics", "data/crops/miniforensics-test", "data/miniforensics-more", "addlib/__pycache__")


@pytest.mark.parametrize("target, gone", [("clean", {*MADE}), ("clean-trainings", {*MADE, TRAININGS})])
def test_only_clean_trainings_removes_trained_networks(tmp_path, target, gone):
    shutil.copy(ROOT / "Makefile", tmp_path)
    folders = {*KEPT, *MADE, TRAININGS}
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "file").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(["make", target], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert {folder for folder in folders if not (tmp_path / folder / "file").exists()} == gone
