"""A grid of trainings: each run that has no row yet is executed as a notebook of its own, by papermill."""

from __future__ import annotations

import ast
import contextlib
import functools
import itertools
import json
import os
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

from addlib.files import InUseError, locked, project_root
from addlib.provenance import code_hash, digest, imported_modules
from addlib.results import Run, read_results, results_file


def read_grid(path) -> tuple[dict, list[Run]]:
    """A grid file: what is run on which crops, and its runs, each once, seed after seed, teachers first.

    The YAML holds ``profile``, ``crops`` (relative to book/), ``common`` (settings of every run), ``runs``, a list of entries,
    each the product of its lists, also inside its ``settings`` (where a value is a list itself, that is a list of one, such as
    ``stage_weights_fr: [[1, 2, 4]]``); and, if it likes, ``notebook``, one of book/experiments other than "train" that runs
    are given to, ``table``, where its rows go (usually "runs", or as the notebook is called), ``test_crops``, a second
    test set, and ``plugin``, a Python file that registers what the runs name. Raises ValueError for a file that is none.
    """
    import yaml

    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    about, runs = {"notebook": "train"} | (given if isinstance(given, dict) else {}), {}
    if set(about) - {"table", "test_crops", "plugin"} != {"notebook", "profile", "crops", "common", "runs"}:
        choices = "perhaps notebook, table, test_crops, plugin"
        raise ValueError(f"{path} has {sorted(about)}; a grid has profile, crops, common, runs, {choices}")
    about = {"table": "runs" if about["notebook"] == "train" else about["notebook"]} | about
    common, entries = about.pop("common") or {}, about.pop("runs")
    if not isinstance(common, dict) or not isinstance(entries, list) or not entries:
        said = "a mapping and a list of entries, such as - {distiller: add}"
        raise ValueError(f"{path}: common is {common!r} and runs {entries!r}, expected {said}")
    for name, value in about.items():
        if not isinstance(value, str):
            raise ValueError(f"{path}: {name} is {value!r}, expected a text")
    known = [field.name for field in fields(Run)]
    for number, entry in enumerate(entries, 1):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"it is {entry!r}; expected settings, such as {{distiller: add}}")
            if unknown := sorted((set(common) | set(entry)) - set(known)):
                raise ValueError(f"a run has no {unknown}; it has {known}")
            merged = common | entry
            several = merged.get("settings", {})
            merged["settings"] = sum(map(_product, several if isinstance(several, list) else [several]), [])
            runs |= dict.fromkeys(Run(**each) for each in _product(merged))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, entry {number} of runs: {error}") from error
    # Others wait for a teacher, so teachers come first, and neighbours in the list have different ones.
    return about, sorted(runs, key=lambda run: (run.seed, run.quality != "raw" or run.distiller != "none"))


def _product(choices: dict) -> list[dict]:
    lists = [value if isinstance(value, list) else [value] for value in choices.values()]
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*lists)]


def sweep(*grids, workers: int | None = None, scheduler: str | None = None, force=False, stale=False,
          limit: int | None = None, root=None) -> bool:  # fmt: skip
    """Train every run of some grids that has no row in data/results/runs.csv, or give it to another notebook and its table.

    The notebook of each run stays in book/_build/runs. A run that fails or is killed is listed, the others go on, and a second
    call runs what is missing. Returns True if every run that was tried has its row in the end.

    Args:
        grids: YAML files, or stems of some in book/experiments/grids.
        workers: runs at once, by default one a GPU of this process, or one a core: the cores are shared out. More than there
            are GPUs share them evenly, which pays for small networks.
        scheduler: address of a Dask scheduler whose workers see the same folders.
        force: train runs that have a row again, also where the network is kept.
        stale: train runs again whose row other code made.
        limit: how many to train at most.
    """
    from addlib.parallel import allotted_processes, map_unordered

    if (workers is not None and workers < 1) or (limit is not None and limit < 0):
        raise ValueError(f"workers is {workers} and limit {limit}; expected 1 or more and 0 or more, or None")
    root, jobs = project_root(root), {}
    for path in [Path(grid) if Path(grid).suffix else root / "book" / "experiments" / "grids" / f"{grid}.yaml" for grid in grids]:
        jobs |= _missing(path, root, force, stale)
    jobs = dict(list(jobs.items())[:limit])
    gpus = len(_gpus())
    workers = workers or gpus or allotted_processes()
    threads = 1 if scheduler else max(1, allotted_processes() // workers)
    shares = -(-workers // gpus) if gpus and not scheduler else 1
    failed, options = 0, {"workers": workers, "scheduler": scheduler, "total": len(jobs), "describe": "training"}
    options["lost"] = lambda job, error: (job[2], 0.0, f"its worker died: {error}")
    for name, seconds, problem in map_unordered(execute, [(*job, threads, shares) for job in jobs.values()], **options):
        failed += bool(problem)
        print(f"{'FAIL' if problem else 'ok  '}  {name}  {seconds:.0f} s{problem and ': ' + problem}", flush=True)
    if failed:
        print(f"{failed} of {len(jobs)} failed; the same command tries them again", file=sys.stderr)
    written = {(table, key) for table in {table for table, _ in jobs} for key in read_results(table)["key"]}
    return not failed and jobs.keys() <= written


def _missing(path: Path, root: Path, force: bool, stale: bool) -> dict[tuple[Path, str], tuple]:
    """What a grid lacks: {(table of results, key): root, notebook, name, key and parameters of the run}."""
    from addlib.faceforensics import data_hash, read_manifest
    from addlib.plugin import load
    from addlib.training import Recipe
    from addlib.training.distillers import changed_settings, create_distiller, distiller_defaults

    if not path.is_file():
        raise ValueError(f"no grid {path}; there are {sorted(file.stem for file in path.parent.glob('*.yaml'))}")
    about, runs = read_grid(path)
    about |= {name: str((root / "book" / about[name]).resolve()) for name in ("crops", "test_crops", "plugin") if about.get(name)}
    for crops in filter(None, (about["crops"], about.get("test_crops"))):
        table = read_manifest(crops)
        known = set(zip(table["manipulation"], table["quality"], strict=True))
        if unknown := sorted({(run.manipulation, run.quality) for run in runs} - known):
            raise ValueError(f"{path}: no crops of {unknown} in {crops}; there are {sorted(known)}")
    if plugin := about.get("plugin"):
        load(plugin)
    data, notebook = data_hash(about["crops"]), root / "book" / "experiments" / f"{about.pop('notebook')}.ipynb"
    answered = functools.cache(_answered)
    for number, run in enumerate(runs):  # what is the recipe's or the distiller's anyway is no change
        try:
            student, answer = answered(run.detector)
            # What cannot be is refused here, and not after its teacher is trained.
            create_distiller(run.distiller, answer, answer, **distiller_defaults(run.distiller, student) | run.settings)
            changes = Recipe.named(run.recipe, **run.changes).changes
            runs[number] = replace(run, changes=changes, settings=changed_settings(run.distiller, run.settings, student))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, {run}: {error}") from error
    keys = {run: run.key(data) for run in runs}
    results = results_file(root, about["table"])
    about |= {"code": code_behind(notebook, plugin), "retrain": force or stale}
    rows = read_results(results)
    done, current = set(rows["key"]), set(rows["key"][rows.get("code", rows["key"]) == about["code"]])
    todo = [run for run, key in keys.items() if force or key not in (current if stale else done)]
    old = len((done - current) & set(keys.values()))
    print(f"{path.stem}: {len(keys)} runs, {len(todo)} to run; {old} rows by other code (--stale)", flush=True)
    return {(results, keys[run]): (str(root), str(notebook), str(run), keys[run], run.parameters | about) for run in todo}


def _answered(detector: str) -> tuple:
    """A detector, which may bring defaults of its own, and what it answers."""
    from addlib.detectors import create_detector, detector_options
    from addlib.detectors.base import answer_of

    student = create_detector(detector, **({"size": 128} if "size" in detector_options(detector) else {}))
    return student, answer_of(student, 128)


def code_behind(notebook: Path, plugin: str | None = None) -> str:
    """Hash of the code of a notebook, of all of addlib that it imports, and of a plugin if there is one."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    own = [ast.dump(ast.parse(Path(plugin).read_text(encoding="utf-8")))] if plugin else []
    return digest([ast.dump(ast.parse(code)), code_hash(*imported_modules(code)), *own])


def execute(job: tuple) -> tuple[str, float, str]:
    """Execute the notebook of one run; returns its name, seconds, and what went wrong."""
    import papermill
    from jupyter_client import AsyncKernelManager

    root, source, name, key, parameters, threads, shares = job
    target = Path(root) / "book" / "_build" / "runs" / f"{Path(source).stem}-{key}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    variables |= {"ADD_HEADLESS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))  # this copy of addlib
    options = {"kernel_name": "python3", "start_timeout": 300, "execution_timeout": 7 * 24 * 3600}
    options |= {"cwd": str(Path(source).parent), "progress_bar": False, "coalesce_streams": True}
    options["extra_arguments"] = ["--log-level=CRITICAL"]  # nothing of the kernel about itself
    parameters = dict(parameters)
    if plugin := parameters.pop("plugin", None):
        options["extra_arguments"] = ["--log-level=WARN"]  # where it fails there and not here, that is said
        options["extra_arguments"].append(f"--IPKernelApp.exec_lines=from addlib.plugin import load; load({plugin!r})")
    start, problem = time.perf_counter(), ""
    with _a_gpu(shares) as chosen:

        class Kernel(AsyncKernelManager):  # the environment of this process belongs to other threads of a Dask worker too
            async def start_kernel(self, **more):
                await super().start_kernel(env=os.environ | variables | chosen, **more)

        try:
            papermill.execute_notebook(source, str(target), parameters, kernel_manager_class=Kernel, **options)
        except Exception as error:  # a cell that failed, a kernel that died, a notebook that cannot be read
            last = str(error).strip().splitlines()[-1:] or [""]
            problem = f"{type(error).__name__}: {last[0]} (see {target.relative_to(root)})"
    return name, time.perf_counter() - start, problem


@functools.cache
def _gpus() -> tuple[str, ...]:
    """The GPUs of this process, by the names that it was given for them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(given[:count] if given else map(str, range(count)))


@contextlib.contextmanager
def _a_gpu(shares: int = 1):
    """The environment that shows one GPU with a share that no other run of this user has; waits for one. Empty without GPUs."""
    folder = Path(tempfile.gettempdir()) / f"addlib-{getattr(os, 'getuid', int)()}"  # one a user
    while gpus := _gpus():
        for share, name in itertools.product(range(shares), gpus):
            file = folder / f"gpu-{name.replace('/', '-')}{f'-share-{share}' if share else ''}.lock"
            with contextlib.suppress(InUseError), locked(file, wait=False):
                yield {"CUDA_VISIBLE_DEVICES": name}
                return
        time.sleep(1)
    yield {}


def trained(run: Run, crops, folder, **options):
    """The network behind a row, kept in a folder of trainings or trained now, after its teacher; options of ``fit_student``."""
    from addlib.training import fit_student

    teacher = trained(run.teacher, crops, folder) if run.teacher else None
    return fit_student(crops, teacher=teacher, folder=folder, **run.parameters, **options)
