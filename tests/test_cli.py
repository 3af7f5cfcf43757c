"""The command line: help, exit codes, messages, and defaults that agree with the functions behind it."""

import inspect
import os
import re
import subprocess
import sys
import warnings
from unittest.mock import Mock

import pandas as pd
import pytest

from addlib import cli, faceforensics, judge, miniforensics

ABOUT = {"manipulation": "FaceSwap", "quality": "c40", "distiller": "add", "recipe": "mini", "changes": {"epochs": 1}, "shift": 8}
COLUMNS = ["manipulation", "quality", "video", "status", "reason", "asked", "crops", "note"]


def test_help(capsys):
    for command in ([], ["generate"], ["prepare"], ["verify"], ["sweep"], ["predict"]):
        assert cli.main([*command, "--help"]) == 0
        assert "Usage: addlib" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("from addlib import cli; assert cli.main(['predict', '--help']) == 0", "torch numpy pandas av cv2 dask"),
        ("from addlib import judge", "lightning torchmetrics dask matplotlib"),
        ("import addlib.metrics, addlib.results, addlib.sweep", "torch scipy papermill"),
    ],
)
def test_only_what_is_needed_is_imported_and_nothing_is_said(code, unwanted):
    code = f"import sys; {code}; assert not set({unwanted.split()}) & set(sys.modules), sys.modules"
    assert not subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stderr


def test_prepare_passes_on_what_is_given_and_lists_what_is_not_ok(tmp_path, monkeypatch, capsys):
    rows, command = [["original", "raw", "000", "ok", "", 8, 8, "odd"]], ["prepare", str(tmp_path), "out"]
    prepare = Mock(side_effect=lambda *about, **options: pd.DataFrame(rows, columns=COLUMNS))
    monkeypatch.setattr(faceforensics, "prepare", prepare)
    monkeypatch.setattr(faceforensics, "data_hash", Mock(return_value="0123456789ab"))
    assert cli.main([*command, "--frames", "3", "--seed", "0", "--qualities", "raw, c40,"]) == 0
    prepare.assert_called_once_with(str(tmp_path), "out", frames=3, seed=0, qualities=["raw", "c40"])
    said = capsys.readouterr().out
    assert "1 ok, 0 short, 0 failed\ndata hash 0123456789ab\n1 rows of out/manifest.csv say in their note" in said
    rows.append(["Deepfakes", "c40", "000_001", "short", "face in 5 of 8 frames", 8, 5, ""])
    assert cli.main(command) == 0
    assert "short: Deepfakes/c40/000_001: 5 of 8 crops, face in 5 of 8 frames" in capsys.readouterr().out
    rows.append(["Deepfakes", "raw", "002_003", "failed", "cannot be decoded", 8, 0, ""])
    assert cli.main(command) == 1
    assert "failed: Deepfakes/raw/002_003: 0 of 8 crops, cannot be decoded" in capsys.readouterr().out


def test_verify(tmp_path, monkeypatch, capsys):
    problems = []
    monkeypatch.setattr(faceforensics, "verify", lambda out: warnings.warn("an old\nfolder", stacklevel=1) or problems)
    assert cli.main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "addlib: warning: an old folder\n"
    problems.append("a.npy is missing")
    assert cli.main(["verify", str(tmp_path)]) == 1
    assert "a.npy is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("size is -1"), 1, "error: size is -1"),
        (FileNotFoundError(2, "No such file", "a.mp4"), 1, "error: [Errno 2] No such file: 'a.mp4'"),
        (ModuleNotFoundError("no dlib"), 1, "error: no dlib; pip install 'addlib[video,train]'"),
        (KeyError("rows"), 1, "error: unexpected KeyError: 'rows'; set ADDLIB_TRACEBACK=1 to see where"),
        (KeyboardInterrupt(), 130, "interrupted; running the same command again goes on from here"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(tmp_path, capsys, monkeypatch, error, code, said):
    monkeypatch.setattr(faceforensics, "verify", Mock(side_effect=error))
    assert cli.main(["verify", str(tmp_path)]) == code
    assert capsys.readouterr().err.strip() == f"addlib: {said}"


@pytest.mark.parametrize(
    "command",
    ["prepare", "generate x --people many", "book", "verify nowhere", "predict --weights x nowhere.mp4"]
    + ["predict . --weights x --threshold 50", "generate x --seed -1", "prepare . x --manipulations ,"]
    + [f"predict . --weights x {option}" for option in ("--plot a.xyz", "--plot nowhere/a.png", "--csv nowhere/a.csv")],
)
def test_a_wrong_command_line_returns_two(capsys, command):
    assert cli.main(command.split()) == 2
    assert "Error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "function", "names"),
    [
        ("generate", miniforensics.generate, "people frames seed"),
        ("prepare", faceforensics.prepare, "frames size seed upsample retry search"),
        ("predict", judge.judge, "frames"),
    ],
)
def test_defaults_in_the_help_are_those_of_the_function(capsys, command, function, names):
    cli.main([command, "--help"])
    text, parameters = " ".join(capsys.readouterr().out.split()), inspect.signature(function).parameters
    for name in names.split():
        shown = re.search(rf"--{name} [A-Z]+ [^()]*\(default: (\w+)", text)
        assert shown and shown[1] == str(parameters[name].default), name


def weights(path, about, seed=0):
    import torch

    from addlib.detectors import create_detector, save_weights

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_weights(create_detector("resnet18_narrow").eval(), path, about)
    return str(path)


def test_predict(tmp_path, clip, capsys):
    from addlib.detectors import read_detector

    path = weights(tmp_path / "weights.safetensors", ABOUT)
    table, picture, copy = tmp_path / "a.csv", tmp_path / "a.png", tmp_path / "b.mp4"
    command = ["predict", str(clip), "--weights", path, "--frames", "3"]
    assert cli.main([*command, str(clip.parent), "--csv", str(table), "--plot", str(picture)]) == 1
    said = capsys.readouterr()
    assert "holds no pictures" in said.err, "a folder of videos"
    assert "trained on: manipulation FaceSwap, quality c40, distiller add" in said.out
    expected = judge.judge(clip, read_detector(path)[0], frames=3, shift=8).probability
    assert f", probability of fake {expected:.3f} (threshold 0.5), a face in 3 of 3 frames" in said.out
    assert pd.read_csv(table)["probability"].mean() == pytest.approx(expected)
    assert picture.read_bytes().startswith(b"\x89PNG")
    copy.write_bytes(clip.read_bytes())
    assert cli.main([*command, str(copy), "--threshold", "0.001"]) == 0
    assert capsys.readouterr().out.count("fake, probability of fake") == 2


def test_predict_takes_names_that_are_no_text_and_leaves_no_half_table(tmp_path, clip, capsys):
    path, table, picture = weights(tmp_path / "weights.safetensors", ABOUT), tmp_path / "a.csv", tmp_path / "a.png"
    names = [os.fsdecode(name) for name in (b"caf\xe9.mp4", b"price $5 $^2.mp4")]
    for name in names:
        (tmp_path / name).write_bytes(clip.read_bytes())
    command = ["predict", *(str(tmp_path / name) for name in names), "--weights", path, "--frames", "1"]
    assert cli.main([*command, "--csv", str(table), "--plot", str(picture)]) == 0
    assert "caf\ufffd.mp4: " in capsys.readouterr().out and picture.is_file()
    assert set(pd.read_csv(table, encoding_errors="surrogateescape")["clip"]) == {str(tmp_path / name) for name in names}


def test_predict_with_several_networks(tmp_path, clip, capsys):
    from addlib.detectors import read_detector

    paths = [weights(tmp_path / f"{seed}.safetensors", ABOUT, seed) for seed in range(2)]
    assert cli.main(["predict", str(clip), "--frames", "2", *[word for path in paths for word in ("--weights", path)]]) == 0
    expected = judge.judge(clip, [read_detector(path)[0] for path in paths], frames=2, shift=8).probability
    assert f"probability of fake {expected:.3f}" in (said := capsys.readouterr().out) and said.count("trained on:") == 2
    other = weights(tmp_path / "other.safetensors", ABOUT | {"shift": 4})
    command = ["predict", str(clip), "--frames", "2", "--weights", paths[0], "--weights", other]
    assert cli.main(command) == 2 and "of [(4, 128), (8, 128)] pixels; judge with each alone" in capsys.readouterr().err
    assert cli.main([*command, "--shift", "8"]) == 0
    small = weights(tmp_path / "small.safetensors", ABOUT | {"size": 96})
    assert cli.main(["predict", str(clip), "--frames", "2", "--weights", small]) == 0
    expected = judge.judge(clip, read_detector(small)[0], frames=2, shift=8, size=96).probability
    assert f"probability of fake {expected:.3f}" in capsys.readouterr().out, "of crops as large as those it learnt from"


PLUGIN = """
from addlib.detectors import register_detector, resnet

@register_detector("own")
def own(num_classes):
    return resnet.narrow((1, 1, 1, 1), (8, 8, 8, 8), False, num_classes)
"""


def test_predict_with_a_detector_of_ones_own(tmp_path, clip, capsys, monkeypatch):
    from addlib import detectors, plugin

    monkeypatch.setattr(detectors, "DETECTORS", dict(detectors.DETECTORS))
    (tmp_path / "own.py").write_text(PLUGIN)
    plugin.load(tmp_path / "own.py")
    detectors.save_weights(detectors.create_detector("own"), tmp_path / "own.safetensors", ABOUT)
    del detectors.DETECTORS["own"]
    command = ["predict", str(clip), "--frames", "1", "--weights", str(tmp_path / "own.safetensors")]
    assert cli.main(command) == 1 and "unknown detector 'own'" in (said := capsys.readouterr().err) and "plugin" in said
    assert cli.main([*command, "--plugin", str(tmp_path / "own.py")]) == 0 and "own, trained on:" in capsys.readouterr().out
    assert cli.main([*command, "--plugin", str(clip)]) == 1 and "is no Python file" in capsys.readouterr().err


def test_predict_takes_the_shift_from_the_weights_whatever_the_recipe(tmp_path, clip, monkeypatch):
    path, asked = weights(tmp_path / "weights.safetensors", {"recipe": "mine", "shift": 6}), Mock(side_effect=ValueError)
    monkeypatch.setattr(judge, "judge", asked)
    for more in ([], ["--shift", "0"]):
        cli.main(["predict", str(clip), "--weights", path, *more])
    assert [call.kwargs["shift"] for call in asked.call_args_list] == [6, 0]


def test_predict_lists_the_trainings_that_are_kept(tmp_path, clip, capsys, monkeypatch):
    monkeypatch.setattr(judge, "project_root", lambda: tmp_path)
    command = ["predict", str(clip), "--frames", "1", "--weights"]
    assert cli.main([*command, "NAME"]) == 1
    assert "no weights at NAME; in" in (said := capsys.readouterr().err) and "there are none: train first" in said
    weights(tmp_path / "data/runs/FaceSwap-c40/weights.safetensors", ABOUT)
    assert cli.main([*command, "NAME"]) == 1 and capsys.readouterr().err.rstrip().endswith("there are\n  FaceSwap-c40")
    assert cli.main([*command, "FaceSwap-c40"]) == 0
