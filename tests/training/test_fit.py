"""Trainings of a few steps: what they learn is nobody's concern here."""

import linecache
import math
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from addlib import provenance
from addlib.detectors import create_detector, read_detector
from addlib.faceforensics import data_hash, read_manifest
from addlib.results import Run
from addlib.training import Distiller, Recipe, fit_detector, fit_student, register_distiller
from addlib.training.distillers import changed_settings
from addlib.training.engine import TrainingTask
from addlib.training.hardware import choose_precision
from addlib.training.store import foreign_code

SHORT = {"epochs": 3, "batch_size": 4, "validations": 2}
BRIEF = SHORT | {"epochs": 1, "validations": 1}
OPTIONS = {"detector": "resnet18_narrow", "recipe": "mini", "changes": SHORT}


def detector(crops, quality="raw", **options):
    return fit_detector(crops, "FaceSwap", quality, **OPTIONS | options)


def student(crops, teacher, **options):
    return fit_student(crops, "FaceSwap", "c40", teacher=teacher, **OPTIONS | options)


@pytest.fixture(scope="module")
def teacher(prepared, tmp_path_factory):
    return detector(prepared, folder=tmp_path_factory.mktemp("runs"))


def same(one, two):
    first, second = one.detector.state_dict(), two.detector.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def run(*arguments, **environment):
    """Python in a process of its own."""
    root, threads = str(Path(__file__).resolve().parents[2]), str(torch.get_num_threads())
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": threads} | environment
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_training_gives_a_detector_and_a_row(teacher, prepared):
    network, row = teacher
    assert not network.training and row["steps"] == 12 and 0 < row["best_step"] <= 12
    known = Run("FaceSwap", "raw", "resnet18_narrow", "none", "mini", SHORT)
    assert Run.of(row) == known and row["key"] == teacher.key == known.key(data_hash(prepared))
    assert teacher.folder.name == f"FaceSwap-raw-resnet18_narrow-none-0-{teacher.key}"
    assert 0 <= row["accuracy"] <= 1 and row["images"] == sum(teacher.predictions["split"] == "test")
    assert row["commit"] and row["versions"]["torch"] == torch.__version__.split("+")[0]
    validations = teacher.history["val_accuracy"].dropna()
    assert len(validations) == 6 and row["val_accuracy"] == pytest.approx(validations.max(), abs=1e-6)
    kept, about = read_detector(teacher.folder / "weights.safetensors")
    assert about["shift"] == 8 and torch.equal(kept.head.weight, network.head.weight)


def test_the_same_again_is_loaded_and_what_other_code_made_is_not(teacher, prepared, monkeypatch):
    trained, folder = [], teacher.folder.parent
    monkeypatch.setattr(TrainingTask, "on_fit_start", lambda task: trained.append(task))
    again = detector(prepared, folder=folder)
    assert same(again, teacher) and again.row == teacher.row and again.predictions.equals(teacher.predictions)
    assert not trained
    detector(prepared, folder=folder, retrain=True)
    monkeypatch.setattr(provenance, "code_hash", lambda *_: "another")
    other = detector(prepared, folder=folder)
    assert len(trained) == 2 and other.key == teacher.key and same(other, teacher)
    assert other.row["made_with"] != teacher.row["made_with"]


def test_a_kept_training_that_is_damaged_is_trained_again(prepared, tmp_path):
    first = detector(prepared, folder=tmp_path)
    for name in ("row.json", "weights.safetensors", "predictions.csv.gz", "history.csv"):
        whole = (first.folder / name).read_bytes()
        (first.folder / name).unlink() if name == "history.csv" else (first.folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.warns(UserWarning, match="the training kept in .* is damaged .*; it is trained again"):
            assert same(detector(prepared, folder=tmp_path), first)


def test_a_fix_of_the_metrics_makes_trainings_old():
    """Their rows hold scores."""
    behind = ("metrics.scoring", "losses.multiview", "detectors.resnet", "faceforensics.pairs")
    assert {f"addlib.{name}" for name in behind} <= set(provenance.modules_behind("addlib.training"))


def test_a_seed_decides(teacher, prepared):
    before = torch.get_rng_state()
    again = detector(prepared)
    assert torch.equal(before, torch.get_rng_state()) and not torch.are_deterministic_algorithms_enabled()
    assert same(again, teacher) and again.folder is None and not same(detector(prepared, seed=1), teacher)


def test_what_is_round_a_training_neither_changes_it_nor_is_changed(teacher, prepared, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    environment, rules, found = dict(os.environ), torch.are_deterministic_algorithms_enabled(), []
    usual = [detector(prepared, seed=seed, changes=BRIEF, precision="32-true") for seed in (0, 1)]

    def again(seed):
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found.append((seed, detector(prepared, seed=np.int64(seed), changes=BRIEF, precision="32-true")))

    threads = [threading.Thread(target=again, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seed for seed, _ in found) == [0, 1] and all(same(one, usual[seed]) for seed, one in found)
    assert dict(os.environ) == environment and torch.are_deterministic_algorithms_enabled() == rules


def test_an_interrupt_is_an_interrupt(prepared, teacher, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("addlib.training.distillers.Baseline.forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        student(prepared, teacher, distiller="kd", changes=BRIEF, seed=10**14)


def test_a_student_leaves_its_teacher_as_it_is(teacher, prepared):
    guide = teacher.detector.train()
    before = {name: tensor.clone() for name, tensor in guide.state_dict().items()}
    found = student(prepared, guide, detector=None)
    assert found.row["detector"] == "resnet18_narrow" and {"train_frequency", "train_multi_view"} <= set(found.history)
    assert guide.training and all(parameter.requires_grad for parameter in guide.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in guide.state_dict().items())
    guide.eval()


def test_start_from_the_teacher_or_a_file(teacher, prepared, monkeypatch):
    starts, path = [], teacher.folder / "weights.safetensors"
    monkeypatch.setattr(TrainingTask, "on_fit_start", lambda task: starts.append(task.detector.head.weight.clone()))
    for start, guide in (("teacher", teacher), (path, None)):
        found = student(prepared, guide, start=start, distiller="none", changes=BRIEF)
        assert torch.equal(starts[-1], teacher.detector.head.weight) and found.row["start"] == str(start)
    assert Run.of(found.row).teacher is None


def test_what_a_backbone_changes_of_the_loss(prepared, teacher, monkeypatch):
    """It stands below the settings, and naming it makes no other training."""
    used = []
    monkeypatch.setattr(type(teacher.detector), "loss_defaults", {"gamma_fr": 0.5, "unknown": 1}, raising=False)
    monkeypatch.setattr(TrainingTask, "on_fit_start", lambda task: used.append(task.distiller.loss.frequency.gamma))
    choices = {}, {"gamma_fr": 0.5, "beta": 16.0}, {"gamma_fr": 1.0}
    assert [changed_settings("add", each, teacher.detector) for each in choices] == [{}, {}, {"gamma_fr": 1.0}]
    rows = [student(prepared, teacher, settings=settings, changes=BRIEF).row for settings in choices]
    assert used == [0.5, 0.5, 1.0] and rows[0]["key"] == rows[1]["key"] != rows[2]["key"]
    assert [row["settings"] for row in rows] == [{}, {}, {"gamma_fr": 1}]


def test_code_of_ones_own_counts_wherever_it_was_typed():
    """Of a base class too, and of a class in a notebook, which has no file but functions that have source."""

    class Base(torch.nn.Linear):
        def forward(self, x):
            return 2 * x

    class Derived(Base):
        pass

    assert any("return 2 * x" in source for source in foreign_code(Derived(1, 1)))
    assert foreign_code(torch.nn.Linear(1, 1), create_detector("resnet18_narrow")) == []
    found = []
    for factor in (1, 100):
        cell, names = f"<cell {factor}>", {"__name__": "__main__", "torch": torch}
        source = f"class Own(torch.nn.Linear):\n    def forward(self, x):\n        return {factor} * x\n"
        linecache.cache[cell] = len(source), None, source.splitlines(True), cell  # as a notebook does
        exec(compile(source, cell, "exec"), names)
        found.append(foreign_code(names["Own"](1, 1)))
    assert found[0] != found[1] and "return 100 * x" in found[1][0]


def test_terms_of_a_distiller_and_its_teacher_are_checked(prepared, teacher, monkeypatch):
    with pytest.raises(ValueError, match="teacher is a str, expected a Trained or a detector"):
        student(prepared, "data/runs/teacher")
    wrong = ({"loss": torch.ones(())}, "{'loss'"), ({"a": torch.ones(2)}, r"{'a': torch.Size\(\[2"), ({"a": 1.0}, "{'a': 1.0"), (None, "None")
    for terms, words in wrong:
        monkeypatch.setattr("addlib.training.distillers.Baseline.forward", lambda *answers, terms=terms: terms)
        with pytest.raises(ValueError, match=f"the distiller returned {words}.*; expected a dict of scalar tensors"):
            student(prepared, teacher, distiller="kd", changes=BRIEF)


def test_another_teacher_is_another_training(prepared, teacher):
    other = detector(prepared, seed=1, changes=BRIEF)
    guides = teacher, other, other.detector, teacher.detector
    options = {"distiller": "kd", "changes": BRIEF}
    keys = [student(prepared, guide, **options).row["key"] for guide in guides]
    run = Run("FaceSwap", "c40", "resnet18_narrow", "kd", "mini", Recipe.named("mini", **BRIEF).changes)
    own = student(prepared, detector(prepared, changes=BRIEF), **options).row["key"]
    assert own == run.key(data_hash(prepared)) and len({own, *keys}) == 3
    assert keys[0] == keys[3] and keys[1] == keys[2], "by its weights, kept or not"


KILLED = """
    import os, sys
    from addlib.training import fit_detector, fit_student
    from addlib.training.engine import TrainingTask

    whole = TrainingTask.training_step
    def dies(self, batch, index):
        if self.distiller is not None and self.global_step == 6:
            os._exit(9)  # in the middle of the second epoch
        return whole(self, batch, index)
    TrainingTask.training_step = dies
    prepared, folder = sys.argv[1:]
    options = {"detector": "resnet18_narrow", "recipe": "mini", "changes": %r, "folder": folder}
    teacher = fit_detector(prepared, "FaceSwap", "raw", **options)
    fit_student(prepared, "FaceSwap", "c40", teacher=teacher, distiller="nl", **options)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_as_if_never_killed(prepared, tmp_path):
    """Bit for bit, with a distiller that has parameters of its own; from the beginning if the checkpoint is cut short."""
    done = run("-c", textwrap.dedent(KILLED) % SHORT, prepared, tmp_path / "a")
    assert done.returncode == 9, done.stderr
    (left,) = (tmp_path / "a").glob("*-nl-*/")
    assert (left / "checkpoints" / "last.ckpt").is_file()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    cut = tmp_path / "b" / left.name / "checkpoints" / "last.ckpt"
    cut.write_bytes(cut.read_bytes()[:-1000])

    options = {"teacher": detector(prepared, folder=tmp_path / "a"), "distiller": "nl"}
    whole, resumed = student(prepared, **options), student(prepared, folder=tmp_path / "a", **options)
    assert resumed.folder == left and not (left / "checkpoints").exists()
    assert len(list(left.glob("csv/attempt_*"))) == 2
    with pytest.warns(UserWarning, match="last.ckpt is damaged.*starts again from the beginning"):
        again = student(prepared, folder=tmp_path / "b", **options)
    for other in (resumed, again):
        assert same(other, whole) and other.row["steps"] == whole.row["steps"]
        for name in ("step", "val_loss", "train_non_local"):
            assert other.history[name].dropna().tolist() == whole.history[name].dropna().tolist()


PARALLEL = """
    import sys
    from addlib.training import fit_detector

    if __name__ == "__main__":
        prepared, folder = sys.argv[1:]
        trained = fit_detector(
            prepared, "FaceSwap", "raw", detector="resnet18_narrow", recipe="mini", changes=%r, folder=folder,
            accelerator="cpu", devices=2, precision="32-true",
        )
        print("steps", trained.row["steps"], len(trained.history["val_auc"].dropna()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["script", "notebook"])
def test_two_devices(prepared, tmp_path, where):
    script, folder = textwrap.dedent(PARALLEL) % SHORT, tmp_path / "runs"
    if where == "script":
        (tmp_path / "parallel.py").write_text(script)
        done = run(tmp_path / "parallel.py", prepared, folder, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        said = done.stdout
    else:
        nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
        code = script.replace("sys.argv[1:]", repr((str(prepared), str(folder))))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
        said = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert "steps 12 6" in said
    (work,) = folder.glob("*/")
    assert (work / "row.json").is_file() and not (work / "checkpoints").exists()


def test_ranks_that_a_launcher_left_behind_do_not_count(prepared, tmp_path):
    code = (
        "import sys; from addlib.training import fit_detector; found = fit_detector(sys.argv[1], 'FaceSwap', 'c40', "
        f"folder=sys.argv[2], accelerator='cpu', **{OPTIONS | {'changes': BRIEF}!r}); "
        "print('rows', len(found.history), (found.folder / 'row.json').is_file())"
    )
    left = dict.fromkeys(("RANK", "LOCAL_RANK", "SLURM_PROCID"), "1") | {"SLURM_JOB_NAME": "mine"}
    done = run("-c", code, prepared, tmp_path, WORLD_SIZE="2", SLURM_NTASKS="2", **left)
    assert done.returncode == 0 and "rows 1 True" in done.stdout, done.stderr


def test_training_stops_early(prepared):
    changes = SHORT | {"epochs": 50, "patience": 2, "learning_rate": 1e-12}
    assert detector(prepared, changes=changes).row["steps"] < 100


def test_a_loss_that_is_not_finite_stops_and_is_named(teacher, prepared):
    @register_distiller("bad")
    class Bad(Distiller):
        def __init__(self, student, teacher):
            super().__init__()

        def forward(self, student, teacher, labels, generator=None):
            return {"good": student.embedding.sum() * 0, "bad": student.embedding.sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="the loss was not finite at step 0, in bad;"):
        student(prepared, teacher, distiller="bad")


def test_classifier_alone_and_frequency_later(teacher, prepared, monkeypatch):
    seen, step = set(), TrainingTask.training_step

    def watched(self, batch, index):
        learns = [name for name, parameter in self.detector.named_parameters() if parameter.requires_grad]
        seen.add((self.current_epoch, learns == ["head.weight", "head.bias"], self.distiller.loss.alpha))
        return step(self, batch, index)

    monkeypatch.setattr(TrainingTask, "training_step", watched)
    student(prepared, teacher, changes=SHORT | {"classifier_epochs": 1, "frequency_from": 2})
    assert seen == {(0, True, 0), (1, False, 0), (2, False, 1)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"distiller": "add"}, "teacher is NoneType, distiller 'add' and start 'noise'"),
        ({"start": "teacher"}, "start 'teacher'; give a teacher"),
        ({"start": "teacher", "teacher": SimpleNamespace(name="xception")}, "a xception of unknown classes, and the student is a resnet18"),
        ({"start": None}, "start is None, expected 'noise'"),
        ({"settings": "alpha"}, "settings is 'alpha', expected a dict"),
        ({"changes": ["epochs"]}, "changes is .'epochs'., expected a dict"),
        ({"detector": None}, "which detector"),
        ({"accelerator": "tpu"}, "accelerator 'tpu'"),
        ({"precision": "nonsense"}, "precision is 'nonsense'; expected 'auto' or one of"),
        ({"precision": "64-true"}, "precision is '64-true'"),
        ({"changes": {"shift": 128}}, "shift is 128 and crops have 128"),
        ({"changes": {"batch_size": 20}}, "16 training pairs make no batch of 20 on each of 1 devices"),
        ({"settings": {"beta": 1}}, r"'none' has no \['beta'\]"),
        ({"accelerator": "cpu", "devices": 2}, r"folder is None, and 2 processes"),
    ],
)
def test_errors(prepared, options, said, monkeypatch):
    monkeypatch.setattr("addlib.training.fit.from_notebook", lambda: False)  # as in a script; pytest's workers have none
    with pytest.raises(ValueError, match=said):
        student(prepared, **{"teacher": None, "distiller": "none"} | options)


def test_short_names_of_a_precision_are_the_long_ones():
    for short, long in (("32", "32-true"), (16, "16-mixed"), ("bf16", "bf16-mixed"), ("bf16-mixed", "bf16-mixed")):
        assert choose_precision(short, "cpu") == long


def test_one_class_is_not_trained_on_in_silence(prepared, tmp_path):
    def lost(split, kind):
        """The crops as if no video of this kind in this split had shown a face."""
        out, table = tmp_path / split, read_manifest(prepared)
        shutil.copytree(prepared, out)
        rows = (table["split"] == split) & (table["manipulation"] == kind)
        table.loc[rows, ["status", "reason", "crops"]] = ["failed", "a face in 0 of 2 frames", 0]
        table.to_csv(out / "manifest.csv", index=False)
        return out

    said = r"all 8 training pairs are real; expected both. 4 videos were left out: \[\('FaceSwap'"
    with pytest.raises(ValueError, match=said):
        detector(lost("train", "FaceSwap"))
    crops, options = lost("val", "FaceSwap"), {"folder": tmp_path / "runs", "changes": BRIEF}
    found, again = detector(crops, **options), detector(crops, **options)
    assert math.isnan(found.row["val_auc"]) and math.isnan(again.row["val_auc"]) and 0 <= found.row["auc"] <= 1
    assert "val_auc" not in found.history or found.history["val_auc"].isna().all()
    found = detector(lost("test", "original"), changes=BRIEF)
    assert math.isnan(found.row["auc"]) and 0 <= found.row["accuracy"] <= 1


def test_a_recipe_and_a_distiller_of_ones_own(teacher, prepared, tmp_path, monkeypatch):
    """The weights say what a prediction needs; when the code of the distiller changes, the student is trained again."""

    @register_distiller("mine")
    class Mine(Distiller):
        def __init__(self, student, teacher):
            super().__init__()

        def forward(self, student, *_):
            return {"mine": student.embedding.square().mean()}

    recipe = Recipe("mine", epochs=1, batch_size=4, validations=1, shift=4)
    options = {"recipe": recipe, "changes": {}, "distiller": "mine", "folder": tmp_path}
    found = student(prepared, teacher, **options)
    _, about = read_detector(found.folder / "weights.safetensors")
    assert about["recipe"] == found.row["recipe"] == "mine" and (about["shift"], found.row["changes"]["epochs"]) == (4, 1)
    monkeypatch.setattr("inspect.getsource", lambda kind: "another")
    assert student(prepared, teacher, **options).row["made_with"] != found.row["made_with"]


def test_compiled(prepared, monkeypatch):
    """The same training, and weights under the same names."""
    compiled, compile = [], torch.nn.Module.compile
    # What torch makes of the network without a compiler for it, which takes minutes.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(compile(self, backend="eager")))
    one, two = (detector(prepared, compile=c, changes=BRIEF) for c in (False, True))
    assert len(compiled) == 1 and same(one, two) and one.row["made_with"] != two.row["made_with"]


def test_a_bar_for_people_only(prepared, monkeypatch):
    import lightning

    trainer = lightning.Trainer
    for progress, people, shown in ((True, False, True), (False, True, False), (None, True, True), (None, False, False)):
        watched = Mock(side_effect=lambda **options: trainer(**options | {"enable_progress_bar": False}))
        monkeypatch.setattr(lightning, "Trainer", watched)
        monkeypatch.setattr(sys.stderr, "isatty", lambda people=people: people, raising=False)
        detector(prepared, progress=progress, changes=BRIEF)
        assert watched.call_args.kwargs["enable_progress_bar"] == shown


def test_import_and_a_kept_training_need_no_lightning(teacher, prepared):
    code = (
        "import sys; import addlib.training as t; print({'lightning', 'torchmetrics', 'timm', 'torchvision'} & set(sys.modules)); "
        f"t.fit_detector(sys.argv[1], 'FaceSwap', 'raw', folder=sys.argv[2], **{OPTIONS!r}); print('lightning' in sys.modules)"
    )
    detector(prepared, folder=teacher.folder.parent)
    done = run("-c", code, prepared, teacher.folder.parent)
    assert done.stdout.split("\n")[:2] == ["set()", "False"], done.stderr


def test_a_gpu_too_small_for_crops_and_network(teacher, prepared, monkeypatch):
    """The training starts again with the crops on the host, and nothing of the first attempt is left."""
    tried, step = [], TrainingTask.training_step

    def full(self, batch, index):
        tried.append(self.global_step)
        if len(tried) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, batch, index)

    monkeypatch.setattr(TrainingTask, "training_step", full)
    found = detector(prepared)
    assert tried == [0, 1, *range(12)] and same(found, teacher) and found.history["step"].is_unique
