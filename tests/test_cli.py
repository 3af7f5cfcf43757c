"""The command line: help, exit codes, and defaults that agree with the functions behind it."""

from __future__ import annotations

import inspect
import re
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from addlib import cli


def helptext(capsys, *command: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def faceforensics(monkeypatch):
    """A stand-in that records how it was called."""
    import addlib

    calls = SimpleNamespace(prepare=None)
    columns = ["manipulation", "quality", "video", "status", "reason", "asked", "crops"]
    calls.rows = [["original", "raw", "000", "ok", "", 8, 8]]
    calls.problems = []

    def prepare(root, out, **options):
        calls.prepare = (root, out, options)
        return pd.DataFrame(calls.rows, columns=columns)

    module = SimpleNamespace(prepare=prepare, verify=lambda out: calls.problems, data_hash=lambda out: "0123456789ab")
    monkeypatch.setitem(sys.modules, "addlib.faceforensics", module)
    monkeypatch.setattr(addlib, "faceforensics", module, raising=False)
    return calls


@pytest.mark.parametrize("command", [[], ["generate"], ["prepare"], ["verify"], ["book"], ["book", "execute"]])
def test_help(capsys, command):
    assert "usage: addlib" in helptext(capsys, *command)


def test_options_not_given_are_left_to_the_function(faceforensics, capsys):
    assert cli.main(["prepare", "in", "out", "--frames", "3"]) == 0
    assert faceforensics.prepare == ("in", "out", {"frames": 3})
    assert "1 ok, 0 short, 0 failed" in capsys.readouterr().out


def test_prepare_lists_what_is_not_ok_and_fails_if_a_video_failed(faceforensics, capsys):
    faceforensics.rows.append(["Deepfakes", "c40", "000_001", "short", "face in 5 of 8 frames", 8, 5])
    assert cli.main(["prepare", "in", "out"]) == 0
    assert "short: Deepfakes/c40/000_001: 5 of 8 crops, face in 5 of 8 frames" in capsys.readouterr().out
    faceforensics.rows.append(["Deepfakes", "raw", "002_003", "failed", "cannot be decoded", 8, 0])
    assert cli.main(["prepare", "in", "out"]) == 1
    assert "failed: Deepfakes/raw/002_003: 0 of 8 crops, cannot be decoded" in capsys.readouterr().out


def test_verify(faceforensics, capsys):
    assert cli.main(["verify", "out"]) == 0
    faceforensics.problems.append("a.npy is missing")
    assert cli.main(["verify", "out"]) == 1
    assert "a.npy is missing" in capsys.readouterr().out


def test_an_expected_error_is_one_line_without_a_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_run_verify", lambda **options: (_ for _ in ()).throw(ValueError("size is -1")))
    assert cli.main(["verify", "x"]) == 1
    assert capsys.readouterr().err == "addlib: error: size is -1\n"


def test_a_wrong_command_line_exits_with_two():
    with pytest.raises(SystemExit) as stopped:
        cli.main(["prepare"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("command", "module", "function", "names"),
    [
        (["generate"], "addlib.miniforensics", "generate", ["people", "frames", "seed"]),
        (["prepare"], "addlib.faceforensics", "prepare", ["frames", "size", "seed"]),
        (["book", "execute"], "addlib.book", "execute", ["profile", "jobs", "timeout"]),
        (["book", "validate"], "addlib.book", "validate", ["profile", "jobs", "timeout"]),
    ],
)
def test_defaults_in_the_help_are_those_of_the_function(capsys, command, module, function, names):
    signature = inspect.signature(getattr(pytest.importorskip(module), function))
    text = helptext(capsys, *command)
    for name in names:
        shown = re.search(rf"--{name} [A-Z]+ [^()]*\(default: (\w+)", text)
        assert shown, f"--{name} says no default"
        assert shown[1] == str(signature.parameters[name].default)
