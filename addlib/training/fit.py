"""``fit_detector`` and ``fit_student``: from a folder of crops to a trained detector and its row of results."""

import contextlib
import copy
import operator
import tempfile
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from addlib import metrics, provenance
from addlib.detectors import DETECTORS, create_detector, detector_options
from addlib.detectors.base import answer_of
from addlib.faceforensics.manifest import data_hash
from addlib.faceforensics.pairs import FacePairs
from addlib.files import locked
from addlib.results import Run, Settings

from . import store
from .distillers import DISTILLERS, changed_settings, create_distiller, distiller_defaults
from .hardware import Hardware, from_notebook, hold
from .prediction import evaluate, predict
from .recipe import Recipe
from .store import Trained

PACKAGES = ("torch", "torchvision", "lightning", "timm")
ONE_AT_A_TIME = threading.RLock()  # torch's random numbers and choice of algorithms are those of the whole process
ABOUT = "manipulation quality distiller recipe changes seed start data commit".split()  # in the file of the weights


def fit_detector(crops, manipulation: str, quality: str, *, detector: str = "resnet50", **options) -> Trained:
    """Train a detector on one manipulation and quality; the teacher, if quality is "raw". options: as :func:`fit_student`."""
    return fit_student(crops, manipulation, quality, teacher=None, distiller="none", detector=detector, **options)


@torch.inference_mode(False)
def fit_student(
    crops, manipulation: str, quality: str, *, teacher, distiller: str = "add", settings: dict | None = None,
    detector: str | None = None, recipe: str | Recipe = "paper", changes: dict | None = None, seed: int = 0, start="noise",
    folder=None, retrain: bool = False, accelerator: str = "auto", devices: int | str = 1,
    precision: str = "auto", compile: bool = False, progress: bool | None = None,
) -> Trained:  # fmt: skip
    """Train a student on crops of one quality under a frozen teacher, which sees the same crops raw.

    Args:
        crops: a folder that ``addlib prepare`` wrote.
        manipulation, quality: such as "NeuralTextures" and "c40".
        teacher: a Trained or a detector, left as it is; None only without distiller and without start "teacher".
        distiller: one of ``training.DISTILLERS``.
        settings: of the distiller, what differs from its defaults and from the ``loss_defaults`` of the backbone, such as
            {"beta": 4.0, "coordinates": "unit"}.
        detector: name of the student, for ``addlib.detectors.create_detector``; the teacher's if None.
        recipe: name or Recipe; changes: settings of it to change, such as {"epochs": 2}.
        seed: of initial weights, order, mirroring, views and pairs.
        start: of the student: "noise", "teacher" (the weights of its teacher), "imagenet", or a path of weights.
        folder: where trainings are kept. One with the same settings, crops, code, versions and hardware is loaded instead of
            trained again, unless ``retrain``, and an interrupted one goes on after its last whole epoch. None keeps nothing.
        accelerator: "auto", "gpu" or "cpu".
        devices: how many, or "auto" for all GPUs; several train in parallel, each on its share of a batch. Which GPUs they are
            is what CUDA_VISIBLE_DEVICES says.
        precision: a name of Lightning's, or "auto", see ``training.autocast``.
        compile: torch.compile of the student.
        progress: show a bar; None shows it to people: in a terminal, or in a notebook that nobody runs headlessly.

    Returns a Trained with the weights of the best validation accuracy. Scores that are not defined are NaN in its row. Raises
    ValueError for settings that do not fit and training crops of one class, FloatingPointError where the loss is not finite.
    """
    for name, value in (("settings", settings), ("changes", changes)):
        if not isinstance(value, Mapping | None):
            raise ValueError(f"{name} is {value!r}, expected a dict such as {{'beta': 4.0}} or {{'epochs': 2}}")
    if not isinstance(start, str | Path):
        raise ValueError(f"start is {start!r}, expected 'noise', 'teacher', 'imagenet' or a path of weights")
    recipe, seed, settings = Recipe.named(recipe, **(changes or {})), operator.index(seed), Settings(settings)
    guide = teacher.detector if isinstance(teacher, Trained) else teacher
    if isinstance(guide, str | Path):
        raise ValueError(f"teacher is a {type(guide).__name__}, expected a Trained or a detector, such as of read_detector(path)")
    if (guide is None) != (distiller == "none" and start != "teacher"):
        given = f"teacher is {type(guide).__name__}, distiller {distiller!r} and start {str(start)!r}"
        raise ValueError(f"{given}; give a teacher for a distiller or for start 'teacher', and only then")
    detector = detector or getattr(guide, "name", None)
    if detector is None:
        raise ValueError("which detector? give its name, or a teacher that has one")
    if start == "teacher" and (guide.name, classes := getattr(guide, "num_classes", "unknown")) != (detector, 2):
        teaching = f"a {guide.name} of {classes} classes"
        raise ValueError(f"start is 'teacher', {teaching}, and the student is a {detector} of 2; give both one backbone")
    hardware = Hardware.choose(accelerator, devices, precision)
    if folder is None and hardware.processes > 1 and not from_notebook():
        raise ValueError(f"folder is None, and {hardware.processes} processes have to find the same weights; give a folder")
    sides = ("compressed",) if distiller == "none" else ("raw", "compressed")
    train = FacePairs(crops, manipulation, quality, "train", sides=sides)
    val, test = (FacePairs(crops, manipulation, quality, split, sides=("compressed",)) for split in ("val", "test"))
    size = _size(train, recipe)
    with ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = None if start in ("noise", "teacher") else start
        # F3-Net is built for one size.
        options = {"size": size} if "size" in detector_options(detector) else {}
        student = create_detector(detector, weights=weights, **options)
        answers = [network and answer_of(network, size) for network in (student, guide)]
        loss = create_distiller(distiller, *answers, **distiller_defaults(distiller, student) | settings)
    settings = changed_settings(distiller, settings, student)
    if start == "teacher":
        student.load_state_dict(guide.state_dict())
    run = Run(manipulation, quality, detector, distiller, recipe.name, recipe.changes, seed, str(start), settings)
    data, versions = data_hash(crops), {name: version(name) for name in PACKAGES}
    key = run.key(data)
    if run.teacher and getattr(teacher, "key", None) != run.teacher.key(data):  # another teacher, another training
        key = provenance.digest([key, store.weights_hash(guide)])
    threads = torch.get_num_threads() if hardware.kind == "cpu" else None
    foreign = store.foreign_code(student, loss, DETECTORS[detector], DISTILLERS[distiller][0])
    networks = [network and store.weights_hash(network) for network in (student, guide)]
    made_with = [provenance.code_hash("addlib.training"), foreign, versions, networks, compile, threads]
    made_with = provenance.digest([*made_with, hardware.kind, hardware.processes, hardware.precision])
    with ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        if folder is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="addlib-")))
        else:
            work = Path(folder) / f"{manipulation}-{quality}-{detector}-{distiller}-{seed}-{key}"
            # Who wants the same teacher waits, then loads it. Of one parallel training the first process holds the lock.
            if hardware.is_first():
                stack.enter_context(locked(work.with_name(f"{work.name}.lock")))
            if not retrain and (known := store.load(work, student, made_with)) is not None:
                return known
            if hardware.is_first():
                store.begin(work, made_with, anew=retrain)
        began = time.perf_counter()
        from . import engine  # Lightning takes seconds to import

        frozen = loss and engine.frozen_copy(guide, hardware.precision)
        task = engine.TrainingTask(student, recipe, teacher=frozen, distiller=loss, seed=seed)
        alone, found = hardware.processes == 1, None
        for pairs in (train, val, test):
            hold(pairs, hardware.kind if alone else "cpu")
        with contextlib.suppress(*[torch.OutOfMemoryError] * alone):
            found = engine.run_trainer(copy.deepcopy(task), train, val, work, hardware, compile, progress)
        if found is None:  # network and activations do not fit beside the crops
            for pairs in (train, val, test):
                hold(pairs, "cpu")
            found = engine.run_trainer(task, train, val, work, hardware, compile, progress)
        best, step, steps = found
        seconds = time.perf_counter() - began
        student.load_state_dict(best)
        student.to(hardware.kind).eval()
        validated, tested = (predict(student, pairs, recipe, precision=hardware.precision) for pairs in (val, test))
        student.cpu()
        seen = metrics.scores(validated.probabilities, validated.labels)
        row = {"key": key} | run.parameters | {"val_accuracy": seen.accuracy, "val_auc": seen.auc} | evaluate(tested)
        row |= {"images": len(test), "videos": len(set(test.videos)), "left_out": len(test.left_out)}
        row |= {"best_step": step, "steps": steps, "seconds": round(seconds, 1), "made_with": made_with}
        row |= {"precision": hardware.precision}
        origin = provenance.record(Path(__file__).resolve().parents[2], hardware.kind)
        row |= {name: origin[name] for name in ("device", "commit", "date")} | {"data": data, "versions": versions}
        row = {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
        table = pd.concat([validated.table("val"), tested.table("test")], ignore_index=True)
        trained = Trained(student, row, store.read_history(work), table, None if folder is None else work)
        if folder is not None and hardware.is_first():
            store.save(trained, {name: row[name] for name in ABOUT} | {"shift": recipe.shift, "size": train.size})
        return trained


def _size(train: FacePairs, recipe: Recipe) -> int:
    """Pixels along an edge of what the networks see. Raises ValueError for training pairs that teach nothing."""
    if recipe.shift >= train.size:
        raise ValueError(f"shift is {recipe.shift} and crops have {train.size} pixels; choose a smaller shift")
    if len(classes := set(train.labels.tolist())) < 2:
        found = f"all {len(train)} training pairs are {'fake' if 1 in classes else 'real'}; expected both"
        left = f"{len(train.left_out)} videos were left out: {train.left_out[:3]}"
        raise ValueError(f"{found}. {left}; see the manifest of {train.out}")
    return train.size - recipe.shift
