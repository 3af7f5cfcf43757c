"""The command line: help, exit codes, messages, and defaults that agree with the functions behind it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from addlib import cli, miniforensics, video

ABOUT = {"manipulation": "FaceSwap", "quality": "c40", "distiller": "add", "recipe": "mini", "changes": {"epochs": 1}}


def helptext(capsys, *command: str) -> str:
    assert cli.main([*command, "--help"]) == 0
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


@pytest.mark.parametrize("command", [[], ["generate"], ["prepare"], ["verify"], ["sweep"], ["predict"]])
def test_help(capsys, command):
    assert "Usage: addlib" in helptext(capsys, *command)


def test_help_imports_nothing_slow():
    code = (
        "import sys; from addlib import cli; assert cli.main(['predict', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'pandas', 'av', 'cv2', 'dask'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_judging_needs_nothing_that_only_training_needs():
    code = (
        "import sys; from addlib import judge; judge.shift_of({'recipe': 'mini'})\n"
        "assert not {'lightning', 'torchmetrics', 'dask', 'matplotlib'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_options_not_given_are_left_to_the_function(faceforensics, capsys):
    assert cli.main(["prepare", "in", "out", "--frames", "3", "--seed", "0", "--qualities", "raw,c40"]) == 0
    assert faceforensics.prepare == ("in", "out", {"frames": 3, "seed": 0, "qualities": ["raw", "c40"]})
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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("size is -1"), "error: size is -1"),
        (FileNotFoundError(2, "No such file or directory", "a.mp4"), "error: No such file or directory: a.mp4"),
        (
            ModuleNotFoundError("No module named 'dlib'"),
            "error: No module named 'dlib'; install what all commands need",
        ),
        (KeyError("crops"), "error: KeyError: 'crops'; addlib --debug shows where it comes from"),
        (KeyboardInterrupt(), "interrupted; running the same command again goes on from here"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(faceforensics, capsys, monkeypatch, error, said):
    monkeypatch.setattr(sys.modules["addlib.faceforensics"], "verify", lambda out: (_ for _ in ()).throw(error))
    assert cli.main(["verify", "x"]) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"addlib: {said}")


@pytest.mark.parametrize(
    "command", [["prepare"], ["generate", "x", "--people", "many"], ["book"], ["predict", "a.mp4"]]
)
def test_a_wrong_command_line_returns_two(capsys, command):
    assert cli.main(command) == 2
    assert "Error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "module", "function", "names"),
    [
        (["generate"], "addlib.miniforensics", "generate", ["people", "frames", "seed"]),
        (["prepare"], "addlib.faceforensics", "prepare", ["frames", "size", "seed", "upsample", "retry", "search"]),
        (["predict"], "addlib.judge", "judge", ["frames"]),
    ],
)
def test_defaults_in_the_help_are_those_of_the_function(capsys, command, module, function, names):
    signature = inspect.signature(getattr(pytest.importorskip(module), function))
    text = helptext(capsys, *command)
    for name in names:
        shown = re.search(rf"--{name} [A-Z]+ [^()]*\(default: (\w+)", text)
        assert shown and shown[1] == str(signature.parameters[name].default), name


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "one.mp4"
    video.write_video(path, miniforensics.render_video(0, 0, 1, 4)["original"], crf=23)
    return path


def weights(path, about):
    import torch

    from addlib.detectors import create_detector, save_weights

    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(create_detector("resnet18_narrow").eval(), path, about)
    return path


def test_predict(tmp_path, clip, capsys):
    from addlib.detectors import read_detector
    from addlib.judge import judge

    path = weights(tmp_path / "weights.safetensors", ABOUT)
    table, picture = tmp_path / "scores.csv", tmp_path / "scores.png"
    options = ["--weights", str(path), "--frames", "3"]
    assert (
        cli.main(["predict", str(clip), str(clip.parent), *options, "--csv", str(table), "--plot", str(picture)]) == 1
    )
    said = capsys.readouterr()
    assert "holds no pictures" in said.err, "a folder of videos"
    assert "trained on: manipulation FaceSwap, quality c40, distiller add" in said.out
    expected = judge(clip, read_detector(path)[0], frames=3, shift=8).probability
    assert re.search(
        rf"(fake|real), probability of fake {expected:.3f} \(threshold 0.5\), a face in 3 of 3 frames", said.out
    )
    assert pd.read_csv(table)["probability"].mean() == pytest.approx(expected)
    assert picture.read_bytes().startswith(b"\x89PNG")
    copy = tmp_path / "b.mp4"
    copy.write_bytes(clip.read_bytes())
    assert cli.main(["predict", str(clip), str(copy), *options, "--plot", str(picture), "--threshold", "0.001"]) == 0
    assert capsys.readouterr().out.count("fake, probability of fake") == 2


@pytest.mark.parametrize("option", [["--plot", "a.xyz"], ["--plot", "nowhere/a.png"], ["--csv", "nowhere/a.csv"]])
def test_predict_refuses_an_output_before_the_work(clip, capsys, option):
    assert cli.main(["predict", str(clip), "--weights", "none", *option]) == 2
    assert "in a folder that exists" in capsys.readouterr().err


def test_predict_with_a_recipe_that_is_not_known(tmp_path, clip, capsys):
    path = weights(tmp_path / "weights.safetensors", {"recipe": "mine", "changes": {}})
    options = ["--weights", str(path), "--frames", "1"]
    assert cli.main(["predict", str(clip), *options]) == 0
    assert "pixels training took off the crops is not known (recipe mine)" in capsys.readouterr().out
    assert cli.main(["predict", str(clip), *options, "--shift", "0"]) == 0
    assert "is not known" not in capsys.readouterr().out


def test_predict_lists_the_trainings_that_are_kept(tmp_path, clip, capsys, monkeypatch):
    monkeypatch.setattr("addlib.files.project_root", lambda start=None: tmp_path)
    assert cli.main(["predict", str(clip), "--weights", "data/runs/NAME/weights.safetensors"]) == 1
    assert "no weights at data/runs/NAME/weights.safetensors, and none in" in capsys.readouterr().err
    weights(tmp_path / "data/runs/FaceSwap-c40/weights.safetensors", ABOUT)
    assert cli.main(["predict", str(clip), "--weights", "NAME"]) == 1
    assert "no weights at NAME; in" in (said := capsys.readouterr().err) and said.rstrip().endswith("FaceSwap-c40")
    assert cli.main(["predict", str(clip), "--weights", "FaceSwap-c40", "--frames", "1"]) == 0
