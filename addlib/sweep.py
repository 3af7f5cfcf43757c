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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from addlib.files import InUseError, locked, project_root
from addlib.provenance import code_hash, digest
from addlib.results import Run, read_results, results_file

if TYPE_CHECKING:
    from addlib.training import Trained

LONGEST = 7 * 24 * 3600  # seconds for one cell of the notebook


def read_grid(path) -> tuple[dict, list[Run]]:
    """A grid file: what is run on which crops, and its runs, each once, seed after seed, teachers first.

    The YAML holds ``profile``, ``crops`` (relative to book/), ``common`` (settings of every run) and ``runs``, a list of
    entries. An entry stands for the product of its lists, also of those inside its ``settings``. A grid may name the
    ``notebook`` of book/experiments that runs are given to ("train" unless it does), and ``test_crops``, a second test set.

    Returns:
        The file without common and runs, and the runs.

    Raises:
        ValueError: naming file and entry, for what does not fit.
    """
    import yaml

    path, wanted = Path(path), {"profile", "crops", "common", "runs"}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or set(content) - {"notebook", "test_crops"} != wanted:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {found}; a grid has {sorted(wanted)}, and may have notebook and test_crops")
    runs = {}
    for number, entry in enumerate(content.pop("runs"), 1):
        try:
            merged = content["common"] | entry
            several = merged.get("settings", {})
            merged["settings"] = sum(map(_product, several if isinstance(several, list) else [several]), [])
            runs |= dict.fromkeys(Run(**each) for each in _product(merged))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, entry {number} of runs: {error}") from error
    del content["common"]
    # Others wait for a teacher, so teachers come first, and neighbours in the list have different ones.
    return {"notebook": "train"} | content, sorted(
        runs, key=lambda run: (run.seed, run.quality != "raw" or run.distiller != "none")
    )


def _product(choices: dict) -> list[dict]:
    lists = [value if isinstance(value, list) else [value] for value in choices.values()]
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*lists)]


def sweep(
    grid, *, workers: int | None = None, scheduler: str | None = None, force=False, stale=False, limit: int | None = None, root=None
) -> bool:  # fmt: skip
    """Train every run of a grid that has no row in data/results/runs.csv, or give it to another notebook and its table.

    Args:
        grid: a YAML file, or the stem of one in book/experiments/grids.
        workers: runs at once, by default one a GPU of this process (``CUDA_VISIBLE_DEVICES``), or one a core without a
            GPU. The cores are shared out: one process a core with one thread each is faster than fewer with more.
        scheduler: address of a Dask scheduler whose workers see the same folders.
        force: train runs that have a row again, also where the network is kept.
        stale: do so for rows that other code than today's made.
        limit: at most so many runs.
        root: of the project.

    The notebook of each run stays in book/_build/runs. A run that fails or is killed is listed, the others go on, and a
    second call runs what is missing.

    Returns:
        True if every run that was tried has its row in the end.

    Raises:
        ValueError: for a grid that cannot be read; FileNotFoundError for crops or a notebook that are not there.
    """
    from addlib.faceforensics import data_hash
    from addlib.parallel import allotted_processes, map_unordered

    root = project_root(root)
    path = Path(grid)
    if not path.suffix:
        path = root / "book" / "experiments" / "grids" / f"{grid}.yaml"
    if not path.is_file():
        raise ValueError(f"no grid {path}; there are {sorted(file.stem for file in path.parent.glob('*.yaml'))}")
    about, runs = read_grid(path)
    runs = list(dict.fromkeys(map(_without_defaults, runs)))
    for name in {"crops", "test_crops"} & set(about):
        about[name] = str((root / "book" / about[name]).resolve())
    data, table = data_hash(about["crops"]), about.pop("notebook")
    notebook = root / "book" / "experiments" / f"{table}.ipynb"
    if not notebook.is_file():
        raise FileNotFoundError(f"{path} is for the notebook {notebook}, which is not there")
    results = results_file(root, "runs" if table == "train" else table)
    rows = read_results(results)
    done = set(rows["key"])
    about |= {"code": code_behind(notebook), "retrain": force or stale}
    current = set(rows["key"][rows["code"] == about["code"]]) if "code" in rows else set()
    keys = {run: run.key(data) for run in runs}
    old = sum(key in done - current for key in keys.values())
    todo = [run for run in runs if force or keys[run] not in (current if stale else done)][:limit]
    print(f"{path.stem}: {len(runs)} runs, {len(runs) - len(todo)} left alone, {len(todo)} to run", flush=True)
    if old and not (force or stale):
        print(f"{old} rows were made by other code than today's; --stale runs them again", flush=True)
    cores = allotted_processes()
    workers = workers or len(_gpus()) or cores
    threads = 1 if scheduler else max(1, cores // workers)
    jobs = [(str(root), str(notebook), str(run), keys[run], run.parameters | about, threads) for run in todo]
    failed, options = 0, {"workers": workers, "scheduler": scheduler, "total": len(jobs), "describe": "training"}
    for name, seconds, problem in map_unordered(execute, jobs, lost=_lost, **options):
        failed += bool(problem)
        print(f"{'FAIL' if problem else 'ok  '}  {name}  {seconds:.0f} s{problem and ': ' + problem}", flush=True)
    if failed:
        print(f"{failed} of {len(jobs)} failed; the same command tries them again", file=sys.stderr)
    return not failed and {keys[run] for run in todo} <= set(read_results(results)["key"])


def _without_defaults(run: Run) -> Run:
    """The run by which its row will be known: what is the recipe's or the distiller's anyway is no change."""
    from addlib.training import Recipe, distiller_defaults

    known = distiller_defaults(run.distiller)
    settings = {name: value for name, value in run.settings.items() if name not in known or known[name] != value}
    return replace(run, changes=Recipe.named(run.recipe, **run.changes).changes, settings=settings)


def code_behind(notebook: Path) -> str:
    """Hash of the code of a notebook, and of all of addlib that it imports."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "addlib":
            names |= {f"addlib.{each.name}" for each in node.names} if node.module == "addlib" else {node.module}
    return digest([ast.dump(tree), code_hash(*names)])


def execute(job: tuple) -> tuple[str, float, str]:
    """Execute the notebook of one run; returns its name, seconds, and what went wrong ("" if nothing)."""
    import papermill

    root, source, name, key, parameters, threads = job
    stem = Path(source).stem
    target = Path(root) / "book" / "_build" / "runs" / f"{'' if stem == 'train' else stem + '-'}{key}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    variables |= {"ADD_HEADLESS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    # This project's addlib, also where another copy of it is installed.
    variables["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    options = {"cwd": str(Path(source).parent), "kernel_name": "python3", "progress_bar": False}
    options |= {"start_timeout": 300, "execution_timeout": LONGEST, "coalesce_streams": True}
    start, problem, before = time.perf_counter(), "", dict(os.environ)
    with _a_gpu() as chosen:
        try:
            os.environ.update(variables | chosen)
            papermill.execute_notebook(source, str(target), parameters, **options)
        except Exception as error:  # a cell that failed, a kernel that died, a notebook that cannot be read
            last = str(error).strip().splitlines()[-1:] or [""]
            problem = f"{type(error).__name__}: {last[0]} (see {target.relative_to(root)})"
        finally:
            os.environ.clear()
            os.environ.update(before)
    return name, time.perf_counter() - start, problem


def _lost(job, error):
    return job[2], 0.0, f"its worker died: {error}"


@functools.cache
def _gpus() -> tuple[str, ...]:
    """The GPUs of this process, by the names that it was given for them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(given[:count] if given else map(str, range(count)))


@contextlib.contextmanager
def _a_gpu():
    """The environment that shows one GPU no other sweep of this user has; waits until one is free. Empty without GPUs."""
    # A folder for each user: one may not open another's files in a shared one.
    folder = Path(tempfile.gettempdir()) / f"addlib-{os.getuid() if hasattr(os, 'getuid') else 'gpus'}"
    while gpus := _gpus():
        for name in gpus:
            with contextlib.suppress(InUseError), locked(folder / f"gpu-{name.replace('/', '-')}.lock", wait=False):
                yield {"CUDA_VISIBLE_DEVICES": name}
                return
        time.sleep(1)
    yield {}


def trained(run: Run, crops, folder, **options) -> Trained:
    """The network behind a row, as it is kept in a folder of trainings, or trained now, after its teacher if it has one.

    options: of ``training.fit_student``, such as ``retrain=True``; they do not concern the teacher.
    """
    from addlib.training import fit_student

    settings = {name: value for name, value in run.parameters.items() if name not in ("manipulation", "quality")}
    teacher = trained(run.teacher, crops, folder) if run.teacher else None
    return fit_student(crops, run.manipulation, run.quality, teacher=teacher, folder=folder, **settings, **options)
