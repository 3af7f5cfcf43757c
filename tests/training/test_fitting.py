"""Trainings of a few steps: what they learn is nobody's concern here."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from addlib.training import RECIPES, Recipe, fit_detector, fit_student
from addlib.training.task import TrainingTask

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"epochs": 3, "batch_size": 4, "validations": 2}
OPTIONS = {"detector": "resnet18_narrow", "recipe": "mini", "changes": SHORT}


@pytest.fixture(scope="module")
def teacher(prepared, tmp_path_factory):
    return fit_detector(prepared, "FaceSwap", "raw", folder=tmp_path_factory.mktemp("runs"), **OPTIONS)


def same(one, two):
    first, second = one.detector.state_dict(), two.detector.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_gives_a_detector_and_a_row(teacher):
    detector, row = teacher
    assert not detector.training and row["steps"] == 12 and 0 < row["best_step"] <= 12
    assert (row["manipulation"], row["quality"], row["recipe"], row["seed"]) == ("FaceSwap", "raw", "mini", 0)
    assert row["changes"] == SHORT and row["settings"] == {}
    assert 0 <= row["accuracy"] <= 1 and row["images"] == sum(teacher.predictions["split"] == "test")
    assert row["commit"] and row["versions"]["torch"] == torch.__version__.split("+")[0]
    validations = teacher.history["val_accuracy"].dropna()
    assert len(validations) == 6 and row["val_accuracy"] == pytest.approx(validations.max(), abs=1e-6)
    assert {path.name for path in teacher.folder.iterdir()} >= {
        "weights.safetensors", "row.json", "history.csv", "predictions.csv.gz", "csv", "tensorboard",
    }  # fmt: skip
    assert list(teacher.folder.glob("tensorboard/*/events*"))


def test_the_same_again_is_loaded(teacher, prepared, monkeypatch):
    monkeypatch.setattr(TrainingTask, "training_step", lambda *_: pytest.fail("trained again"))
    again = fit_detector(prepared, "FaceSwap", "raw", folder=teacher.folder.parent, **OPTIONS)
    assert same(again, teacher) and again.row == teacher.row
    assert again.predictions.equals(teacher.predictions)


def test_a_seed_decides(teacher, prepared):
    before = torch.get_rng_state()
    again = fit_detector(prepared, "FaceSwap", "raw", **OPTIONS)
    assert torch.equal(before, torch.get_rng_state()) and not torch.are_deterministic_algorithms_enabled()
    assert same(again, teacher) and again.folder is None
    assert not same(fit_detector(prepared, "FaceSwap", "raw", seed=1, **OPTIONS), teacher)


@pytest.mark.parametrize("distiller", ["add", "nl"])
def test_student(teacher, prepared, distiller):
    before = {name: tensor.clone() for name, tensor in teacher.detector.state_dict().items()}
    student = fit_student(
        prepared, "FaceSwap", "c40", teacher=teacher, distiller=distiller, recipe="mini", changes=SHORT
    )
    assert student.row["detector"] == "resnet18_narrow"
    for name, tensor in teacher.detector.state_dict().items():
        assert torch.equal(before[name], tensor)
    terms = {"add": ["train_frequency", "train_multi_view"], "nl": ["train_non_local"]}[distiller]
    assert set(terms) <= set(student.history)
    alone = fit_detector(prepared, "FaceSwap", "c40", **OPTIONS)
    assert not same(student, alone)


KILLED = """
    import os, sys
    from addlib.training import fit_student
    from addlib.training.runs import load
    from addlib.training.task import TrainingTask
    from addlib.training.fitting import fit_detector

    whole = TrainingTask.training_step
    def dies(self, batch, index):
        if self.distiller is not None and self.global_step == 6:
            os._exit(9)  # in the middle of the second epoch
        return whole(self, batch, index)
    TrainingTask.training_step = dies
    prepared, folder = sys.argv[1:]
    options = {"recipe": "mini", "changes": %r, "folder": folder}
    teacher = fit_detector(prepared, "FaceSwap", "raw", detector="resnet18_narrow", **options)
    fit_student(prepared, "FaceSwap", "c40", teacher=teacher, distiller="nl", **options)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_as_if_never_killed(prepared, tmp_path):
    """Bit for bit, with a distiller that has parameters of its own."""
    script = textwrap.dedent(KILLED) % SHORT
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", script, prepared, tmp_path], env=environment, capture_output=True)
    assert done.returncode == 9, done.stderr.decode()
    left = [path for path in tmp_path.iterdir() if path.is_dir() and not (path / "row.json").exists()]
    assert len(left) == 1 and (left[0] / "checkpoints" / "last.ckpt").is_file()

    options = {"recipe": "mini", "changes": SHORT}
    teacher = fit_detector(prepared, "FaceSwap", "raw", folder=tmp_path, detector="resnet18_narrow", **options)
    resumed = fit_student(prepared, "FaceSwap", "c40", teacher=teacher, distiller="nl", folder=tmp_path, **options)
    assert resumed.folder == left[0] and not (left[0] / "checkpoints").exists()
    assert len(list(left[0].glob("csv/attempt_*"))) == 2
    whole = fit_student(prepared, "FaceSwap", "c40", teacher=teacher, distiller="nl", **options)
    assert same(resumed, whole)
    assert resumed.history["step"].tolist() == whole.history["step"].tolist()
    assert resumed.history["val_loss"].dropna().tolist() == whole.history["val_loss"].dropna().tolist()


PARALLEL = """
    import sys
    from addlib.training import fit_detector

    if __name__ == "__main__":
        prepared, folder = sys.argv[1:]
        trained = fit_detector(
            prepared, "FaceSwap", "raw", detector="resnet18_narrow", recipe="mini", changes=%r, folder=folder,
            accelerator="cpu", devices=2, precision="32-true",
        )
        print(trained.row["steps"])
"""


@pytest.mark.slow
def test_two_devices(prepared, tmp_path):
    script = tmp_path / "parallel.py"
    script.write_text(textwrap.dedent(PARALLEL) % SHORT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, prepared, tmp_path / "runs"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "12" in done.stdout.split()
    (folder,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    assert (folder / "row.json").is_file() and not (folder / "checkpoints").exists()


def test_training_stops_early(prepared):
    changes = SHORT | {"epochs": 50, "patience": 2, "learning_rate": 1e-12}
    found = fit_detector(prepared, "FaceSwap", "raw", detector="resnet18_narrow", recipe="mini", changes=changes)
    assert found.row["steps"] < 100


class Bad(nn.Module):
    def forward(self, student, teacher, labels, generator):
        return {"good": student.embedding.sum() * 0, "bad": student.embedding.sum() * float("nan")}


def test_a_loss_that_is_not_finite_stops_and_is_named(teacher, prepared, monkeypatch):
    monkeypatch.setattr("addlib.training.fitting._distiller", lambda *_: Bad())
    with pytest.raises(FloatingPointError, match="the loss was not finite at step 0, in bad;"):
        fit_student(prepared, "FaceSwap", "c40", teacher=teacher, recipe="mini", changes=SHORT)


def test_classifier_alone_and_frequency_later(teacher, prepared, monkeypatch):
    seen = []
    step = TrainingTask.training_step

    def watched(self, batch, index):
        loss = step(self, batch, index)
        learns = [name for name, parameter in self.detector.named_parameters() if parameter.requires_grad]
        seen.append((self.current_epoch, learns, self.distiller.frequency_on))
        return loss

    monkeypatch.setattr(TrainingTask, "training_step", watched)
    changes = SHORT | {"classifier_epochs": 1, "frequency_from": 2}
    fit_student(prepared, "FaceSwap", "c40", teacher=teacher, recipe="mini", changes=changes)
    for epoch, learns, frequency in seen:
        assert (learns == ["head.weight", "head.bias"]) == (epoch < 1)
        assert frequency == (epoch >= 2)
    assert {epoch for epoch, *_ in seen} == {0, 1, 2}


def test_teacher_and_student_see_the_same_window(teacher):
    task = TrainingTask(teacher.detector, RECIPES["mini"])
    crop = torch.arange(16.0 * 16).view(1, 1, 16, 16)
    generator = torch.Generator().manual_seed(1)
    one, two = task._window(generator, crop, crop)
    assert one.shape == (1, 1, 8, 8) and torch.equal(one, two)
    moved = {task._window(generator, crop)[0][0, 0, 0, 0].item() for _ in range(200)}
    assert len(moved) > 60, "81 places are possible"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher": None, "distiller": "add"}, "teacher is NoneType and distiller 'add'"),
        ({"teacher": None, "distiller": "none"}, "which detector"),
        (
            {"teacher": None, "distiller": "none", "detector": "resnet18_narrow", "accelerator": "tpu"},
            "accelerator 'tpu'",
        ),
        (
            {"teacher": None, "distiller": "none", "detector": "resnet18_narrow", "changes": {"shift": 128}},
            "shift is 128 and crops have 128",
        ),
    ],
)
def test_errors(prepared, options, said):
    with pytest.raises(ValueError, match=said):
        fit_student(prepared, "FaceSwap", "c40", **{"recipe": "mini"} | options)


def test_a_recipe_object_works(prepared):
    recipe = Recipe("mine", epochs=1, batch_size=4, validations=1)
    found = fit_detector(prepared, "FaceSwap", "c40", detector="resnet18_narrow", recipe=recipe)
    assert found.row["recipe"] == "mine" and found.row["changes"]["epochs"] == 1


@pytest.mark.slow
def test_compiled(prepared):
    """The same training but for rounding, and weights under the same names."""
    options = OPTIONS | {"changes": SHORT | {"epochs": 1}, "precision": "32-true"}
    plain, compiled = (fit_detector(prepared, "FaceSwap", "raw", compile=c, **options) for c in (False, True))
    assert compiled.detector.state_dict().keys() == plain.detector.state_dict().keys()
    assert compiled.history["val_loss"].dropna().tolist() == pytest.approx(
        plain.history["val_loss"].dropna().tolist(), rel=1e-2
    )


def test_a_bar_for_people_only(monkeypatch):
    from addlib.training.engine import _shows

    assert _shows(True) and not _shows(False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert _shows(None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert not _shows(None)
