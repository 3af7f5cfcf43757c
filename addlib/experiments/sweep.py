"""Run the cells of a grid that have no row yet, each as a notebook of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from .cells import read_grid
from .table import read_results, results_file

LONGEST = 7 * 24 * 3600  # seconds for one cell of the notebook


def sweep(grid, *, workers=None, scheduler=None, force=False, limit=None, root=None) -> bool:
    """Train every cell of a grid that has no row in data/results/runs.csv, or give it to another notebook and its table.

    grid: a YAML file, or the stem of one in book/experiments/grids. workers: trainings at once, by default one for each GPU,
    or one for each core without a GPU. scheduler: address of a Dask scheduler whose workers see the same folders.
    force: train cells that have a row again. limit: at most so many cells.
    A grid of ``notebook: outside`` runs book/experiments/outside.ipynb and looks for rows in data/results/outside.csv.
    The notebook of each run stays in book/_build/runs. A run that fails or is killed is listed, the others go on, and a
    second call runs what is missing. Returns True if every cell of the grid has its row in the end.
    Raises ValueError for a grid that cannot be read, FileNotFoundError for crops or a notebook that are not there.
    """
    from addlib.book.project import locate
    from addlib.faceforensics import data_hash
    from addlib.parallel import map_unordered

    project = locate(root)
    path = Path(grid)
    if not path.suffix:
        path = project.book / "experiments" / "grids" / f"{grid}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in (project.book / "experiments" / "grids").glob("*.yaml"))
        raise ValueError(f"no grid {path}; there are {known}")
    about, cells = read_grid(path)
    crops = (project.book / about["crops"]).resolve()
    data = data_hash(crops)
    notebook = project.book / "experiments" / f"{about['notebook']}.ipynb"
    if not notebook.is_file():
        raise FileNotFoundError(f"{path} is for the notebook {notebook}, which is not there")
    results = results_file(project.root, "runs" if about["notebook"] == "train" else about["notebook"])
    known = set() if force else set(read_results(results)["key"])
    todo = [cell for cell in cells if cell.key(data) not in known][:limit]
    print(f"{path.stem}: {len(cells)} cells, {len(cells) - len(todo)} left alone, {len(todo)} to run", flush=True)
    gpus = _gpus()
    jobs = [
        {
            "root": str(project.root),
            "notebook": str(notebook),
            "name": str(cell),
            "key": cell.key(data),
            "parameters": cell.parameters | {"profile": about["profile"], "crops": str(crops)},
            "gpus": gpus,
        }
        for cell in todo
    ]
    failed = []
    workers = workers or (gpus or os.cpu_count())
    for name, seconds, problem in map_unordered(
        run, jobs, workers=workers, scheduler=scheduler, total=len(jobs), describe="training", lost=_lost
    ):
        print(
            f"{'FAIL' if problem else 'ok  '}  {name}  {seconds:.0f} s{': ' + problem if problem else ''}", flush=True
        )
        failed += [name] if problem else []
    if failed:
        print(f"{len(failed)} of {len(jobs)} failed; the same command tries them again", file=sys.stderr)
    rows = set(read_results(results)["key"])
    return all(cell.key(data) in rows for cell in cells)


def run(job: dict) -> tuple[str, float, str]:
    """Execute the notebook of one cell; returns its name, seconds, and what went wrong ("" if nothing)."""
    from addlib.book.project import WORKER, Project, child_environment

    project = Project(Path(job["root"]))
    folder = project.build / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(job["notebook"])
    name = job["key"] if source.stem == "train" else f"{source.stem}-{job['key']}"
    target = folder / f"{name}.ipynb"
    order = folder / f"{name}.job.json"
    order.write_text(
        json.dumps(
            {
                "source": str(source),
                "target": str(target),
                "parameters": job["parameters"],
                "cwd": str(source.parent),
                "timeout": LONGEST,
            }
        )
    )
    start = time.perf_counter()
    with _a_gpu(job["gpus"]) as chosen:
        done = subprocess.run(
            [sys.executable, "-P", str(WORKER), str(order)],
            env=child_environment(project) | chosen,
            capture_output=True,
            text=True,
        )
    order.unlink(missing_ok=True)
    said = (done.stdout.strip() or done.stderr.strip() or f"ended with {done.returncode}").splitlines()
    problem = f"{said[-1]} (see {target.relative_to(project.root)})" if done.returncode else ""
    return job["name"], time.perf_counter() - start, problem


def _lost(job, error):
    return job["name"], 0.0, f"its worker died: {error}"


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextlib.contextmanager
def _a_gpu(count: int):
    """The environment that shows one GPU nobody else of these runs uses; waits until one is free. Empty without GPUs."""
    if not count:
        yield {}
        return
    locks = [FileLock(Path(tempfile.gettempdir()) / f"addlib-gpu-{number}.lock") for number in range(count)]
    while True:
        for number, lock in enumerate(locks):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield {"CUDA_VISIBLE_DEVICES": str(number)}
            finally:
                lock.release()
            return
        time.sleep(1)
