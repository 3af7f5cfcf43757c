"""The one command for a borrowed GPU: a step that fails or runs out of its share of time is named, and the others run."""

import runpy
import sys
import time
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parent / "benchmarks" / "gpu.py"))


def test_a_step_that_fails_or_hangs_ends_nothing_else(tmp_path, monkeypatch, capsys):
    code = {"hangs": "import time; time.sleep(60)", "fails": "raise SystemExit(3)", "good": "print('a row')"}
    shares = {"hangs": 0.1, "fails": 0.5, "good": 1.0}
    made = [(name, shares[name], ["-c", text]) for name, text in code.items()]
    monkeypatch.setitem(SCRIPT["main"].__globals__, "steps", lambda *_: made)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--minutes", "0.3", str(tmp_path / "out")])
    assert SCRIPT["main"]() == 1
    said = capsys.readouterr().out
    assert "not whole: hangs, fails" in said and "exit no time left" in said and "exit 3" in said
    assert (tmp_path / "out" / "good.log").read_text() == "a row\n"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only", "good", "--", str(tmp_path / "alone")])
    assert SCRIPT["main"]() == 0 and [path.name for path in (tmp_path / "alone").iterdir()] == ["good.log"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only", "bad", "--", str(tmp_path / "alone")])
    with pytest.raises(SystemExit):
        SCRIPT["main"]()
    assert "no step ['bad']; there are ['hangs', 'fails', 'good']" in capsys.readouterr().err


def test_what_a_step_started_ends_with_it(tmp_path, monkeypatch):
    """Its trainings would go on using the GPU beside the next step."""
    child = "import sys, time; time.sleep(4); open(sys.argv[1], 'w').close()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, {str(tmp_path / 'late')!r}])"
    monkeypatch.setitem(SCRIPT["main"].__globals__, "steps", lambda *_: [("sweep", 0.01, ["-c", parent])])
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--minutes", "2", str(tmp_path / "out")])
    assert SCRIPT["main"]() == 1
    time.sleep(5)
    assert not (tmp_path / "late").exists()


def test_its_commands_name_what_exists(tmp_path):
    for device in ("cpu", "cuda"):
        for name, share, command in SCRIPT["steps"](device, "crops", 2, tmp_path):
            paths = [part for part in command if part.startswith(("tests/", "book/", "/"))]
            root = Path(__file__).parents[1]
            assert 0 < share <= 1 and all((root / path).exists() for path in paths if "json" not in path)
            if "sweep" in command:
                assert (root / "book" / "experiments" / "grids" / f"{name}.yaml").is_file()
