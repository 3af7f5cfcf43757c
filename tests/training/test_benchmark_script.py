"""The benchmark of training steps runs, and its rows are ratios of what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "training.py"


@pytest.mark.slow
def test_command_line(prepared, tmp_path):
    out = tmp_path / "training.json"
    arguments = "--steps 2 --warm-up 1 --rounds 1 --threads 1 --workers 0 --plain --batch 4 --json".split()
    done = subprocess.run([sys.executable, SCRIPT, prepared, *arguments, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert set(rows) == {"bare", "full", "plain"} and "target 0.85" in done.stdout
    for row in rows.values():
        assert row["against_full"] == pytest.approx(row["ms"] / rows["full"]["ms"])
        assert row["images_per_s"] == pytest.approx(4000 / row["ms"])
