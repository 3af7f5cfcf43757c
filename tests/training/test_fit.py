"""Trainings of a few steps: what they learn is nobody's concern here."""

import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from addlib import provenance
from addlib.detectors import Detection, read_detector
from addlib.faceforensics import FacePairs, data_hash, read_manifest
from addlib.results import Run
from addlib.training import RECIPES, Distiller, Recipe, engine, fit_detector, fit_student, register_distiller
from addlib.training.engine import EpochLoader, TrainingTask

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"epochs": 3, "batch_size": 4, "validations": 2}
STUDENT = {"recipe": "mini", "changes": SHORT}
OPTIONS = {"detector": "resnet18_narrow", **STUDENT}
BRIEF = OPTIONS | {"changes": SHORT | {"epochs": 1, "validations": 1}}


@pytest.fixture(scope="module")
def teacher(prepared, tmp_path_factory):
    return fit_detector(prepared, "FaceSwap", "raw", folder=tmp_path_factory.mktemp("runs"), **OPTIONS)


def same(one, two):
    first, second = one.detector.state_dict(), two.detector.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def run(*arguments, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())} | environment
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_training_gives_a_detector_and_a_row(teacher, prepared):
    detector, row = teacher
    assert not detector.training and row["steps"] == 12 and 0 < row["best_step"] <= 12
    known = Run("FaceSwap", "raw", "resnet18_narrow", "none", "mini", SHORT)
    assert Run.of(row) == known and row["key"] == teacher.key == known.key(data_hash(prepared))
    assert teacher.folder.name == f"FaceSwap-raw-resnet18_narrow-none-0-{teacher.key}"
    assert row["changes"] == SHORT and row["settings"] == {} and row["start"] == "noise"
    assert 0 <= row["accuracy"] <= 1 and row["images"] == sum(teacher.predictions["split"] == "test")
    assert row["commit"] and row["versions"]["torch"] == torch.__version__.split("+")[0]
    validations = teacher.history["val_accuracy"].dropna()
    assert len(validations) == 6 and row["val_accuracy"] == pytest.approx(validations.max(), abs=1e-6)
    assert {path.name for path in teacher.folder.iterdir()} >= {
        "weights.safetensors", "row.json", "history.csv", "predictions.csv.gz", "csv", "tensorboard",
    }  # fmt: skip
    kept, about = read_detector(teacher.folder / "weights.safetensors")
    assert about["shift"] == 8 and torch.equal(kept.head.weight, detector.head.weight)


def test_the_same_again_is_loaded_and_what_other_code_made_is_not(teacher, prepared, monkeypatch):
    options = {"folder": teacher.folder.parent, **OPTIONS}
    again = fit_detector(prepared, "FaceSwap", "raw", **options)
    assert same(again, teacher) and again.row == teacher.row and again.predictions.equals(teacher.predictions)
    trained = []
    monkeypatch.setattr(TrainingTask, "on_fit_start", lambda task: trained.append(task))
    fit_detector(prepared, "FaceSwap", "raw", retrain=True, **options)
    monkeypatch.setattr(provenance, "code_hash", lambda *_: "another")
    other = fit_detector(prepared, "FaceSwap", "raw", **options)
    assert len(trained) == 2 and other.key == teacher.key and same(other, teacher)
    assert other.row["made_with"] != teacher.row["made_with"]


def test_a_fix_of_the_metrics_makes_trainings_old():
    """Their rows hold scores."""
    behind = ("metrics.scoring", "losses.multiview", "detectors.resnet", "faceforensics.pairs")
    assert {f"addlib.{name}" for name in behind} <= set(provenance.modules_behind("addlib.training"))


def test_a_seed_decides(teacher, prepared):
    before = torch.get_rng_state()
    again = fit_detector(prepared, "FaceSwap", "raw", **OPTIONS)
    assert torch.equal(before, torch.get_rng_state()) and not torch.are_deterministic_algorithms_enabled()
    assert same(again, teacher) and again.folder is None
    assert not same(fit_detector(prepared, "FaceSwap", "raw", seed=1, **OPTIONS), teacher)


@pytest.mark.parametrize("distiller", ["add", "nl"])
def test_student_leaves_its_teacher_as_it_is(teacher, prepared, distiller):
    detector = teacher.detector.train()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    student = fit_student(prepared, "FaceSwap", "c40", teacher=detector, distiller=distiller, **STUDENT)
    assert student.row["detector"] == "resnet18_narrow" and detector.training
    assert all(parameter.requires_grad for parameter in detector.parameters())
    for name, tensor in detector.state_dict().items():
        assert torch.equal(before[name], tensor)
    terms = {"add": ["train_frequency", "train_multi_view"], "nl": ["train_non_local"]}[distiller]
    assert set(terms) <= set(student.history)
    detector.eval()


def test_start_from_the_teacher_or_a_file(teacher, prepared, monkeypatch):
    starts, path = [], teacher.folder / "weights.safetensors"
    monkeypatch.setattr(TrainingTask, "on_fit_start", lambda task: starts.append(task.detector.head.weight.clone()))
    for start, guide in (("teacher", teacher), (path, None)):
        found = fit_student(prepared, "FaceSwap", "c40", start=start, teacher=guide, distiller="none", **BRIEF)
        assert torch.equal(starts[-1], teacher.detector.head.weight) and found.row["start"] == str(start)
    assert Run.of(found.row).teacher is None
    with pytest.raises(ValueError, match="start is 'teacher', a resnet18_narrow, and the student is a resnet34_narrow"):
        options = BRIEF | {"detector": "resnet34_narrow"}
        fit_student(prepared, "FaceSwap", "c40", teacher=teacher, start="teacher", **options)


def test_what_a_backbone_changes_of_the_loss(prepared, teacher, monkeypatch):
    """It stands below the settings, and naming it makes no other training."""
    used = []
    monkeypatch.setattr(type(teacher.detector), "loss_defaults", {"gamma_fr": 0.5, "unknown": 1}, raising=False)
    monkeypatch.setattr(TrainingTask, "on_fit_start", lambda task: used.append(task.distiller.loss.frequency.gamma))
    rows = [
        fit_student(prepared, "FaceSwap", "c40", teacher=teacher, settings=settings, **BRIEF).row
        for settings in ({}, {"gamma_fr": 0.5, "beta": 16.0}, {"gamma_fr": 1.0})
    ]
    assert used == [0.5, 0.5, 1.0] and rows[0]["key"] == rows[1]["key"] != rows[2]["key"]
    assert [row["settings"] for row in rows] == [{}, {}, {"gamma_fr": 1}]


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
    options = {"recipe": "mini", "changes": %r, "folder": folder}
    teacher = fit_detector(prepared, "FaceSwap", "raw", detector="resnet18_narrow", **options)
    fit_student(prepared, "FaceSwap", "c40", teacher=teacher, distiller="nl", **options)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_as_if_never_killed(prepared, tmp_path):
    """Bit for bit, with a distiller that has parameters of its own; from the beginning if the checkpoint is cut short."""
    done = run("-c", textwrap.dedent(KILLED) % SHORT, prepared, tmp_path)
    assert done.returncode == 9, done.stderr
    left = [path for path in tmp_path.iterdir() if path.is_dir() and not (path / "row.json").exists()]
    assert len(left) == 1 and (left[0] / "checkpoints" / "last.ckpt").is_file()
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path, damaged, ignore=shutil.ignore_patterns("damaged"))
    cut = damaged / left[0].name / "checkpoints" / "last.ckpt"
    cut.write_bytes(cut.read_bytes()[:-1000])

    teacher = fit_detector(prepared, "FaceSwap", "raw", folder=tmp_path, detector="resnet18_narrow", **STUDENT)
    options = {"teacher": teacher, "distiller": "nl", **STUDENT}
    resumed = fit_student(prepared, "FaceSwap", "c40", folder=tmp_path, **options)
    assert resumed.folder == left[0] and not (left[0] / "checkpoints").exists()
    assert len(list(left[0].glob("csv/attempt_*"))) == 2
    with pytest.warns(UserWarning, match="last.ckpt is damaged.*starts again from the beginning"):
        again = fit_student(prepared, "FaceSwap", "c40", folder=damaged, **options)
    whole = fit_student(prepared, "FaceSwap", "c40", **options)
    for other in (resumed, again):
        assert same(other, whole) and other.row["steps"] == whole.row["steps"]
        assert other.history["step"].tolist() == whole.history["step"].tolist()
        assert other.history["val_loss"].dropna().tolist() == whole.history["val_loss"].dropna().tolist()


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
    (work,) = [path for path in folder.iterdir() if path.is_dir()]
    assert (work / "row.json").is_file() and not (work / "checkpoints").exists()


def test_ranks_that_a_launcher_left_behind_do_not_count(prepared, tmp_path):
    code = (
        "import sys; from addlib.training import fit_detector; found = fit_detector(sys.argv[1], 'FaceSwap', 'c40', "
        f"detector='resnet18_narrow', recipe='mini', changes={BRIEF['changes']!r}, folder=sys.argv[2], accelerator='cpu'); "
        "print('rows', len(found.history), (found.folder / 'row.json').is_file())"
    )
    left = dict.fromkeys(("RANK", "LOCAL_RANK", "SLURM_PROCID"), "1") | {"SLURM_JOB_NAME": "mine"}
    done = run("-c", code, prepared, tmp_path, WORLD_SIZE="2", SLURM_NTASKS="2", **left)
    assert done.returncode == 0 and "rows 1 True" in done.stdout, done.stderr


def test_training_stops_early(prepared):
    changes = SHORT | {"epochs": 50, "patience": 2, "learning_rate": 1e-12}
    found = fit_detector(prepared, "FaceSwap", "raw", detector="resnet18_narrow", recipe="mini", changes=changes)
    assert found.row["steps"] < 100


def test_a_loss_that_is_not_finite_stops_and_is_named(teacher, prepared, monkeypatch):

    @register_distiller("bad")
    class Bad(Distiller):
        def __init__(self, student, teacher):
            super().__init__()

        def forward(self, student, teacher, labels, generator=None):
            return {"good": student.embedding.sum() * 0, "bad": student.embedding.sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="the loss was not finite at step 0, in bad;"):
        fit_student(prepared, "FaceSwap", "c40", teacher=teacher, distiller="bad", **STUDENT)


def test_classifier_alone_and_frequency_later(teacher, prepared, monkeypatch):
    seen, step = set(), TrainingTask.training_step

    def watched(self, batch, index):
        learns = [name for name, parameter in self.detector.named_parameters() if parameter.requires_grad]
        seen.add((self.current_epoch, learns == ["head.weight", "head.bias"], self.distiller.loss.alpha))
        return step(self, batch, index)

    monkeypatch.setattr(TrainingTask, "training_step", watched)
    changes = SHORT | {"classifier_epochs": 1, "frequency_from": 2}
    fit_student(prepared, "FaceSwap", "c40", teacher=teacher, recipe="mini", changes=changes)
    assert seen == {(0, True, 0), (1, False, 0), (2, False, 1)}


def test_teacher_and_student_see_the_same_window_somewhere(teacher):
    places, crops = [], torch.arange(128 * 128, dtype=torch.int64).remainder(251).to(torch.uint8).view(1, 1, 128, 128)
    crops = crops.expand(2, 3, 128, 128)

    class Looking(torch.nn.Module):
        name, head = "resnet18_narrow", torch.nn.Linear(1, 2)

        def forward(self, x):
            places.append(x[0, 0].detach())
            embedding = x.mean((1, 2, 3))[:, None]
            return Detection((x,), embedding, self.head(embedding))

    class Nothing(Distiller):
        def forward(self, student, teacher, labels, generator=None):
            return {}

    task = TrainingTask(Looking(), RECIPES["mini"], teacher=Looking(), distiller=Nothing())
    corners = set()
    for task.seed in range(60):
        task.training_step((crops, crops, torch.tensor([0, 1])), 0)
        assert places[-1].shape == (120, 120) and torch.equal(places[-1], places[-2])
        corners.add(places[-1][0, 0].item())
    assert len(corners) > 30, "81 places are possible"


def test_validation_auc_of_a_sure_network_and_of_one_class():
    """In float32 the probabilities of odds from 17 on are all 1."""
    logged = {}
    task = TrainingTask(torch.nn.Identity(), RECIPES["mini"])
    task._trainer = SimpleNamespace(world_size=1)
    task.log = lambda name, value, **_: logged.update({name: float(value)})
    for odds, labels, wanted in (
        ([18.0, 20.0, 25.0, 30.0], [0, 0, 1, 1], 1.0),
        ([25.0, 20.0, 18.0, 30.0], [0, 0, 1, 1], 0.5),
        ([1.0, 2.0], [1, 1], math.nan),
    ):
        task._answers = [(torch.tensor([2.0]), torch.tensor(odds), torch.tensor(labels))]
        task.on_validation_epoch_end()
        assert logged["val_auc"] == pytest.approx(wanted, nan_ok=True) and logged["val_loss"] == 2 / len(odds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"distiller": "add"}, "teacher is NoneType, distiller 'add' and start 'noise'"),
        ({"start": "teacher"}, "start 'teacher'; give a teacher"),
        ({"detector": None}, "which detector"),
        ({"accelerator": "tpu"}, "accelerator 'tpu'"),
        ({"changes": {"shift": 128}}, "shift is 128 and crops have 128"),
        ({"changes": {"batch_size": 20}}, "16 training pairs make no batch of 20 on each of 1 devices"),
        ({"settings": {"beta": 1}}, r"'none' has no \['beta'\]"),
    ],
)
def test_errors(prepared, options, said):
    plain = {"teacher": None, "distiller": "none", "detector": "resnet18_narrow", "recipe": "mini"}
    with pytest.raises(ValueError, match=said):
        fit_student(prepared, "FaceSwap", "c40", **plain | options)


def lost(prepared, out, split, kind):
    """The crops as if no video of this kind in this split had shown a face."""
    shutil.copytree(prepared, out)
    table = read_manifest(out)
    rows = (table["split"] == split) & (table["manipulation"] == kind)
    table.loc[rows, ["status", "reason", "crops"]] = ["failed", "a face in 0 of 2 frames", 0]
    table.to_csv(out / "manifest.csv", index=False)
    return out


def test_one_class_is_not_trained_on_in_silence(prepared, tmp_path):
    said = r"all 8 training pairs are real; expected both. 4 videos were left out: \[\('FaceSwap'"
    with pytest.raises(ValueError, match=said):
        fit_detector(lost(prepared, tmp_path / "train", "train", "FaceSwap"), "FaceSwap", "c40", **BRIEF)
    options = {"folder": tmp_path / "runs", **BRIEF}
    found = fit_detector(lost(prepared, tmp_path / "val", "val", "FaceSwap"), "FaceSwap", "c40", **options)
    assert math.isnan(found.row["val_auc"]) and 0 <= found.row["auc"] <= 1
    assert "val_auc" not in found.history or found.history["val_auc"].isna().all()
    again = fit_detector(tmp_path / "val", "FaceSwap", "c40", **options)
    assert math.isnan(again.row["val_auc"]) and again.row["seconds"] == found.row["seconds"]
    found = fit_detector(lost(prepared, tmp_path / "test", "test", "original"), "FaceSwap", "c40", **BRIEF)
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
    options = {"teacher": teacher, "recipe": recipe, "distiller": "mine", "folder": tmp_path}
    found = fit_student(prepared, "FaceSwap", "c40", **options)
    _, about = read_detector(found.folder / "weights.safetensors")
    assert (
        about["recipe"] == found.row["recipe"] == "mine" and about["shift"] == 4 and found.row["changes"]["epochs"] == 1
    )
    monkeypatch.setattr("inspect.getsource", lambda kind: "another")
    again = fit_student(prepared, "FaceSwap", "c40", **options)
    assert again.row["made_with"] != found.row["made_with"]


def test_compiled(prepared, monkeypatch):
    """The same training, and weights under the same names."""
    compiled, compile = [], torch.nn.Module.compile
    # What torch makes of the network without a compiler for it, which takes minutes.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(compile(self, backend="eager")))
    one, two = (fit_detector(prepared, "FaceSwap", "raw", compile=c, **BRIEF) for c in (False, True))
    assert len(compiled) == 1 and same(one, two) and one.row["made_with"] != two.row["made_with"]


def test_a_bar_for_people_only(prepared, monkeypatch):
    import lightning

    shown, trainer = [], lightning.Trainer

    def watched(enable_progress_bar, **options):
        shown.append(enable_progress_bar)
        return trainer(enable_progress_bar=False, **options)

    monkeypatch.setattr(lightning, "Trainer", watched)
    for progress, people in ((True, False), (False, True), (None, True), (None, False)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda people=people: people, raising=False)
        fit_detector(prepared, "FaceSwap", "raw", progress=progress, **BRIEF)
    assert shown == [True, False, True, False]


def test_import_and_a_kept_training_need_no_lightning(teacher, prepared):
    folder = teacher.folder.parent
    code = (
        "import sys; import addlib.training as t; print({'lightning', 'torchmetrics', 'timm', 'torchvision'} & set(sys.modules)); "
        f"t.fit_detector(sys.argv[1], 'FaceSwap', 'raw', folder=sys.argv[2], **{OPTIONS!r}); print('lightning' in sys.modules)"
    )
    fit_detector(prepared, "FaceSwap", "raw", folder=folder, **OPTIONS)
    done = run("-c", code, prepared, folder)
    assert done.stdout.split("\n")[:2] == ["set()", "False"], done.stderr


def test_hardware():
    assert engine.Hardware.choose("cpu", "auto", 1, "auto").processes == 1
    both, alone = (engine.Hardware.choose("cpu", count, 1, "32-true") for count in ("2", 1))
    assert both.processes == 2
    # Only a frozen body leaves parameters without a gradient, and looking for them costs.
    found = [
        engine.trainer_options(hardware, freezes)["strategy"] for hardware in (alone, both) for freezes in (False, True)
    ]
    assert found == ["auto", "auto", "ddp", "ddp_find_unused_parameters_true"]


def test_crops_are_held_where_there_is_room(prepared, monkeypatch):
    def place(device="cpu"):
        pairs = FacePairs(prepared, "FaceSwap", "c40", "train")
        engine.hold(pairs, device)
        return pairs.device and pairs.device.type

    assert place() == "cpu"
    # Nothing is held on the meta device, so what is held there is none too many.
    assert place("meta") == "meta"
    for error in (MemoryError, RuntimeError):
        with monkeypatch.context() as patch:
            patch.setattr(FacePairs, "_whole", Mock(side_effect=error("can't allocate memory")))
            assert place() is place("meta") is None, "read from disk"
    monkeypatch.setattr(engine, "free_memory", lambda: 100)
    assert place() is None


def test_a_gpu_too_small_for_crops_and_network(teacher, prepared, monkeypatch):
    """The training starts again with the crops on the host, and nothing of the first attempt is left."""
    tried, step = [], TrainingTask.training_step

    def full(self, batch, index):
        tried.append(self.global_step)
        if len(tried) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, batch, index)

    monkeypatch.setattr(TrainingTask, "training_step", full)
    found = fit_detector(prepared, "FaceSwap", "raw", **OPTIONS)
    assert tried == [0, 1, *range(12)] and same(found, teacher)
    assert found.history["step"].is_unique


def test_epochs_differ_and_return(prepared):
    pairs = FacePairs(prepared, "FaceSwap", "c40", "train", device="cpu")
    loader = EpochLoader(pairs, 4, flip=0.5)
    first, again = (torch.cat([batch[1] for batch in loader]) for _ in range(2))
    waiting = iter(loader)
    loader.epoch = 1  # counts when the first batch is drawn
    later = torch.cat([batch[1] for batch in waiting])
    assert torch.equal(first, again) and not torch.equal(first, later)
    held = EpochLoader(pairs, 5, training=False)
    assert len(loader) == 4 and [len(labels) for *_, labels in held] == [5, 5, 5, 1] and len(held) == 4
