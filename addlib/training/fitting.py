"""``fit_detector`` and ``fit_student``: from a folder of crops to a trained detector and its row of results."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from addlib import metrics, provenance
from addlib.detectors import create_detector
from addlib.faceforensics import FacePairs, data_hash

from . import runs
from .distillers import create_distiller
from .engine import Hardware, is_first, run
from .evaluation import evaluate, predict
from .loading import load_pairs
from .recipe import RECIPES, Recipe
from .runs import Trained
from .sources import sources
from .task import TrainingTask

PACKAGES = ("torch", "torchvision", "lightning", "timm", "torchmetrics")


def fit_detector(crops, manipulation, quality, *, detector="resnet50", **options) -> Trained:
    """Train a detector on one manipulation and quality; the teacher, if quality is "raw".

    crops: a folder that ``addlib prepare`` wrote. manipulation: such as "NeuralTextures". quality: "raw", "c23" or "c40".
    detector: name for ``addlib.detectors.create_detector``. options: see ``fit_student``, as far as they do not concern
    teacher and distiller.
    Returns a Trained; ``detector, row = fit_detector(...)`` works as well.
    Raises as ``fit_student``.
    """
    return fit_student(crops, manipulation, quality, teacher=None, distiller="none", detector=detector, **options)


def fit_student(
    crops,
    manipulation,
    quality,
    *,
    teacher,
    distiller="add",
    distiller_settings=None,
    detector=None,
    recipe="paper",
    changes=None,
    seed=0,
    weights=None,
    folder=None,
    accelerator="auto",
    devices=1,
    nodes=1,
    precision="auto",
    compile=False,
    progress=None,
) -> Trained:
    """Train a student on crops of one quality under a frozen teacher, who sees the same crops raw.

    crops, manipulation, quality: as ``fit_detector``.
    teacher: a Trained or a detector; None only for distiller "none". distiller: see ``training.DISTILLERS``;
    distiller_settings: its settings, such as {"alpha": 1.0, "beta": 16.0, "coordinates": "unit"}.
    detector: name of the student; the teacher's if None. recipe: name or Recipe; changes: settings of the recipe to
    change, such as {"epochs": 2}. seed: of initial weights, order, mirroring, views and pairs. weights: initial weights,
    see ``create_detector``.
    folder: where trainings are kept. One with the same settings, data, code and versions is loaded instead of trained
    again, and an interrupted one goes on after its last whole epoch. None keeps nothing.
    accelerator: "auto", "gpu" or "cpu". devices, nodes: as Lightning's Trainer; several devices train in parallel (DDP),
    each on its share of a batch. precision: a name of Lightning's, or "auto", see ``training.precision``. compile:
    torch.compile of the student. progress: show a bar; None shows it to people: in a terminal, or in a notebook that
    nobody runs headlessly.

    Returns a Trained with the weights of the best validation accuracy.
    Raises ValueError for settings that do not exist or do not fit, FloatingPointError if the loss is not finite.
    """
    recipe = Recipe.named(recipe, **(changes or {}))
    guide = teacher.detector if isinstance(teacher, Trained) else teacher
    if (guide is None) != (distiller == "none"):
        raise ValueError(f"teacher is {type(guide).__name__} and distiller {distiller!r}; give both, or neither")
    detector = detector or getattr(guide, "name", None)
    if detector is None:
        raise ValueError("which detector? give its name, or a teacher that has one")
    hardware = Hardware.of(accelerator, devices, nodes, precision)
    settings = dict(distiller_settings or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        side = _side(crops, manipulation, recipe)
        # The only detector that is built for one size.
        student = create_detector(detector, weights=weights, **({"size": side} if detector == "f3net" else {}))
        loss = None if guide is None else _distiller(distiller, student, guide, side, settings)
    identity = {
        "manipulation": manipulation,
        "quality": quality,
        "detector": detector,
        "distiller": distiller,
        "settings": settings,
        "recipe": asdict(recipe),
        "seed": seed,
    }
    versions = {name: version(name) for name in PACKAGES}
    data = data_hash(crops)
    key = runs.key_of(
        identity
        | hardware.decides()
        | {
            "weights": None if weights is None else runs.hash_of_weights(student),
            "teacher": None if guide is None else runs.hash_of_weights(guide),
            "compile": bool(compile),
            "data": data,
            "versions": versions,
            "sources": runs.hash_of_sources(*sources(student, distilled=guide is not None)),
        }
    )
    with contextlib.ExitStack() as stack:
        if folder is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="addlib-")))
        else:
            work = Path(folder) / f"{manipulation}-{quality}-{detector}-{distiller}-{seed}-{key}"
            work.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that want the same teacher: the second waits, then loads. The processes of one parallel
            # training are one: the first of them holds the lock.
            if is_first():
                stack.enter_context(FileLock(f"{work}.lock"))
            if (known := runs.load(work, student)) is not None:
                return known
        start = time.perf_counter()
        home = hardware.home
        train, val, test = (load_pairs(crops, manipulation, quality, name, device=home) for name in runs.SPLITS)
        task = TrainingTask(student, recipe, teacher=guide, distiller=loss, seed=seed)
        best = run(task, train, val, work, hardware, compile, progress)
        seconds = time.perf_counter() - start
        student.load_state_dict(best.weights)
        student.to(hardware.kind).eval()
        answers = {
            split: predict(student, pairs, recipe, precision=hardware.precision)
            for split, pairs in (("val", val), ("test", test))
        }
        student.cpu()
        origin = provenance.record(Path(__file__).resolve().parents[2])
        row = identity | {"recipe": recipe.name, "changes": _changes(recipe)} | _measured(answers)
        row |= {"images": len(test), "videos": len(set(test.videos)), "left_out": len(test.left_out)}
        row |= {"best_step": best.step, "steps": best.steps, "seconds": round(seconds, 1)}
        row |= {name: origin[name] for name in ("device", "commit", "date")}
        row |= {"precision": hardware.precision, "data": data, "key": key, "versions": versions}
        trained = Trained(
            student,
            {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()},
            runs.read_history(work),
            pd.concat([runs.table_of(*item) for item in answers.items()], ignore_index=True),
            None if folder is None else work,
        )
        if folder is not None and is_first():
            runs.save(work, trained)
            shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return trained


def _measured(answers):
    """Metrics of the test split, and of the validation split those that a choice may be based on."""
    seen = metrics.scores(answers["val"].probabilities, answers["val"].labels)
    return {"val_accuracy": seen.accuracy, "val_auc": seen.auc} | evaluate(answers["test"])


def _distiller(name, student, teacher, side, settings):
    """Fit the distiller to what both networks give back for crops of this side."""
    crops = torch.zeros(2, 3, side, side)
    answers = []
    for network in (student, teacher):
        was_training = network.training
        with torch.no_grad():
            answers.append(network.eval()(crops.to(next(network.parameters()).device)))
        network.train(was_training)
    return create_distiller(name, *answers, **settings)


def _side(crops, manipulation, recipe):
    """Pixels along an edge of what the networks see."""
    crop, _, _ = FacePairs(crops, manipulation, "raw", "val")[0]
    if recipe.shift >= crop.shape[-1]:
        raise ValueError(f"shift is {recipe.shift} and crops have {crop.shape[-1]} pixels; choose a smaller shift")
    return crop.shape[-1] - recipe.shift


def _changes(recipe):
    """In what a recipe differs from the one of its name."""
    named = asdict(RECIPES[recipe.name]) if recipe.name in RECIPES else {}
    return {name: value for name, value in asdict(recipe).items() if named.get(name) != value}
