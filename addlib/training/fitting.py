"""``fit_detector`` and ``fit_student``: from a folder of crops to a trained detector and its row of results."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import pkgutil
import shutil
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import lightning
import pandas as pd
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from addlib import losses, metrics, provenance
from addlib.detectors import create_detector, normalisation
from addlib.faceforensics import FacePairs, data_hash, drawing, pairs, resident

from . import distillers, loading, runs, task
from . import recipe as recipes
from .distillers import create_distiller
from .evaluation import evaluate, predict
from .loading import EpochLoader, load_pairs
from .precision import choose
from .recipe import Recipe
from .runs import Trained
from .task import TrainingTask

VERSIONS = ("torch", "torchvision", "lightning", "timm", "torchmetrics")
LOG_EVERY = 10  # steps


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

    teacher: a Trained or a detector; None only for distiller "none". distiller: see ``training.DISTILLERS``;
    distiller_settings: its settings, such as {"alpha": 1.0, "beta": 16.0, "coordinates": "unit"}.
    detector: name of the student; the teacher's if None. recipe: name or Recipe; changes: settings of the recipe to
    change, such as {"epochs": 2}. seed: of initial weights, order, mirroring, views and pairs. weights: a file of initial
    weights, see ``create_detector``.
    folder: where trainings are kept. One with the same settings, data, code and versions is loaded instead of trained
    again, and an interrupted one goes on after its last whole epoch. None keeps nothing.
    accelerator, devices, nodes: as Lightning's Trainer; several devices train in parallel (DDP), each on its share of a
    batch. precision: a name of Lightning's, or "auto". compile: torch.compile of the student. progress: show a bar; None
    shows it to people: in a terminal, or in a notebook that nobody runs headlessly.

    Returns a Trained with the weights of the best validation accuracy.
    Raises ValueError for settings that do not exist or do not fit, FloatingPointError if the loss is not finite.
    """
    recipe = Recipe.named(recipe, **(changes or {}))
    settings = dict(distiller_settings or {})
    teacher_name = teacher.row["detector"] if isinstance(teacher, Trained) else getattr(teacher, "name", None)
    guide = teacher.detector if isinstance(teacher, Trained) else teacher
    detector = detector or teacher_name
    if detector is None:
        raise ValueError("which detector? give its name, or a teacher that has one")
    if (guide is None) != (distiller == "none"):
        raise ValueError(f"teacher is {type(guide).__name__} and distiller {distiller!r}; give both, or neither")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        side = _side(crops, manipulation, recipe)
        # The only detector that is built for one size.
        student = create_detector(detector, weights=weights, **({"size": side} if detector == "f3net" else {}))
        loss = None if guide is None else _distiller(distiller, student, guide, side, settings)
    where = "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    number_format = choose(precision, where)
    identity = {
        "manipulation": manipulation,
        "quality": quality,
        "detector": detector,
        "distiller": distiller,
        "settings": settings,
        "recipe": asdict(recipe),
        "seed": seed,
    }
    depends = identity | {
        "weights": None if weights is None else runs.hash_of_weights(student),
        "teacher": None if guide is None else runs.hash_of_weights(guide),
        "data": data_hash(crops),
        "device": where,
        "devices": devices if isinstance(devices, int) else str(devices),
        "precision": number_format,
        "compile": bool(compile),
        "threads": torch.get_num_threads() if where == "cpu" else None,
        "versions": _versions(),
        "sources": runs.hash_of_sources(*_sources(student)),
    }
    key = runs.key_of(depends)
    name = f"{manipulation}-{quality}-{detector}-{distiller}-{seed}-{key}"
    with contextlib.ExitStack() as stack:
        if folder is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="addlib-")))
        else:
            work = Path(folder) / name
            work.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that want the same teacher: the second waits, then loads. The processes of one parallel
            # training are one: the first of them holds the lock.
            if _is_first():
                stack.enter_context(FileLock(f"{work}.lock"))
            if (known := runs.load(work, student)) is not None:
                return known
        start = time.perf_counter()
        alone = where == "cuda" and devices == 1 and nodes == 1
        home = "cuda" if alone else "cpu"
        train, val, test = (
            load_pairs(crops, manipulation, quality, split, device=home) for split in ("train", "val", "test")
        )
        fitting = TrainingTask(student, recipe, teacher=guide, distiller=loss, seed=seed)
        hardware = {
            "accelerator": "gpu" if where == "cuda" else "cpu", "devices": devices, "num_nodes": nodes, "precision": number_format,
            "strategy": "auto" if devices == 1 and nodes == 1 else "ddp_find_unused_parameters_true",
            "deterministic": True if where == "cpu" else "warn",
        }  # fmt: skip
        best = _fit(fitting, train, val, work, hardware, compile, _shows(progress))
        seconds = time.perf_counter() - start
        student.load_state_dict(best["weights"])
        student.cpu().eval()
        on_device = student.to(where)
        answers = {
            split: predict(on_device, pairs, recipe, precision=number_format)
            for split, pairs in (("val", val), ("test", test))
        }
        student.cpu()
        row = identity | {"settings": settings, "recipe": recipe.name, "changes": _changes(recipe)}
        row |= {f"val_{metric}": value for metric, value in metrics.scores(*answers["val"][::2][:2])._asdict().items()}
        row |= {"images": len(test), "videos": len(set(test.videos)), "left_out": len(test.left_out)}
        row |= evaluate(answers["test"])
        row |= {"best_step": best["step"], "steps": best["steps"], "seconds": round(seconds, 1)}
        origin = provenance.record(Path(__file__).resolve().parents[2])
        row |= {
            "device": origin["device"],
            "precision": number_format,
            "commit": origin["commit"],
            "date": origin["date"],
        }
        row |= {"data": depends["data"], "key": key, "versions": _versions()}
        row = {name: runs.settle(value) for name, value in row.items()}
        history = runs.read_history(work)
        tables = pd.concat([runs.table_of(split, answer) for split, answer in answers.items()], ignore_index=True)
        trained = Trained(student, row, history, tables, None if folder is None else work)
        if folder is not None and _is_first():
            runs.save(work, trained)
            shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return trained


def _fit(fitting, train, val, work, hardware, compile, progress) -> dict:
    """Run the Trainer, from the last whole epoch if there is one. Returns the best weights, their step, and all steps."""
    recipe = fitting.recipe
    attempt = len(list(work.glob("csv/attempt_*")))
    last = work / "checkpoints" / "last.ckpt"
    callbacks = [
        ModelCheckpoint(
            last.parent,
            "best",
            monitor="val_accuracy",
            mode="max",
            save_weights_only=True,
            enable_version_counter=False,
        ),
        # The state to resume from: whole epochs, since everything random is drawn anew at the start of an epoch.
        ModelCheckpoint(
            last.parent, "last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
        ),
    ]
    if recipe.patience is not None:
        callbacks.append(EarlyStopping("val_accuracy", mode="max", patience=recipe.patience))
    with _quiet(), _deterministic(), torch.random.fork_rng():
        trainer = lightning.Trainer(
            **hardware,
            max_epochs=recipe.epochs,
            logger=[
                CSVLogger(work, "csv", f"attempt_{attempt}"),
                TensorBoardLogger(work, "tensorboard", f"attempt_{attempt}"),
            ],
            callbacks=callbacks,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=LOG_EVERY,
            use_distributed_sampler=False,
            benchmark=False,
            val_check_interval=1 / recipe.validations,
        )
        share = max(recipe.batch_size // trainer.world_size, 1)
        draw = {
            "normalise": normalisation(fitting.detector.name),
            "rank": trainer.global_rank,
            "world": trainer.world_size,
        }
        batches = EpochLoader(train, share, seed=fitting.seed, flip=recipe.flip, **draw)
        trainer.fit(
            fitting,
            batches,
            EpochLoader(val, max(recipe.batch_size, 64), training=False, **draw),
            ckpt_path=last if last.is_file() else None,
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        kept = torch.load(callbacks[0].best_model_path, map_location="cpu", weights_only=True)
        trainer.strategy.barrier()
    prefix = "detector."
    weights = {
        name.removeprefix(prefix): value for name, value in kept["state_dict"].items() if name.startswith(prefix)
    }
    return {"weights": weights, "step": kept["global_step"], "steps": trainer.global_step}


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
    return crop.shape[-1] - recipe.shift


def _changes(recipe):
    """In what a recipe differs from the one of its name."""
    named = asdict(Recipe.named(recipe.name)) if recipe.name in recipes.RECIPES else {}
    return {name: value for name, value in asdict(recipe).items() if named.get(name) != value}


def _sources(detector):
    """The modules whose code decides what a training gives."""
    package = [
        importlib.import_module(f"addlib.losses.{module.name}") for module in pkgutil.iter_modules(losses.__path__)
    ]
    networks = {inspect.getmodule(type(part)) for part in detector.modules()}
    networks = [module for module in networks if module.__name__.startswith("addlib.")]
    return sorted(
        {*package, *networks, distillers, loading, recipes, task, drawing, resident, pairs}, key=lambda m: m.__name__
    )


def _versions():
    return {name: version(name) for name in VERSIONS}


def _shows(progress):
    if progress is not None:
        return progress
    return sys.stderr.isatty() or ("ipykernel" in sys.modules and not os.environ.get("TQDM_DISABLE"))


def _is_first():
    """Whether this process is the first of a parallel training; Lightning tells the others their number."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


@contextlib.contextmanager
def _quiet():
    """Without Lightning's notices of the hardware and its advice, which would end up on a page; warnings of others pass."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _deterministic():
    """Puts torch's choice of algorithms back as it was: the Trainer changes it for the whole process."""
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn)
