"""Execute stale chapters with papermill."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from addlib import provenance
from addlib.book import chapter
from addlib.book.freshness import Freshness
from addlib.book.project import WORKER, BookError, Project, child_environment, locate


def execute(
    profile: str = "smoke",
    names: list[str] | None = None,
    jobs: int = 2,
    timeout: int = 600,
    force: bool = False,
    root: str | Path | None = None,
) -> bool:
    """Run every stale chapter, at most ``jobs`` at once, with ``timeout`` seconds for each cell.

    Prints one line per chapter; a chapter that fails does not stop the others. Executed copies go to
    book/_build/executed/PROFILE, a failed one is kept beside them as NAME.failed.ipynb and never published.
    Returns True if every chapter is fresh in the end.
    """
    if jobs < 1 or timeout <= 0:
        raise BookError(f"jobs and timeout must be positive, got {jobs} and {timeout}")
    project = locate(root)
    freshness = Freshness(project, profile)
    sources = project.chapters(names)
    folder = project.executed(profile)
    folder.mkdir(parents=True, exist_ok=True)
    # Everything that is wrong with a profile or a chapter's form is found before the first kernel starts.
    keys = {source: freshness.key(source) for source in sources}
    stale = [source for source in sources if force or freshness.state(source) != "fresh"]
    for source in sources:
        if source not in stale:
            print(f"fresh  {source.stem}", flush=True)
    if not stale:
        return True
    record = provenance.record(project.root)

    def one(source: Path) -> bool:
        facts = {"profile": profile, "data": freshness.data_hash(source), "key": keys[source], **record}
        return _run(project, source, folder, freshness.parameters(source), facts, timeout)

    with ThreadPoolExecutor(jobs) as pool:
        return all(list(pool.map(one, stale)))


def _run(project: Project, source: Path, folder: Path, values: dict, facts: dict, timeout: int) -> bool:
    """Execute one chapter; its line is printed as soon as it is done."""
    target, failed = folder / source.name, folder / f"{source.stem}.failed.ipynb"
    part, job = folder / f"{source.stem}.part.ipynb", folder / f"{source.stem}.job.json"
    job.write_text(
        json.dumps(
            {
                "source": str(source),
                "target": str(part),
                "parameters": values,
                "cwd": str(project.book),
                "timeout": timeout,
            }
        )
    )
    for leftover in (part, failed):
        leftover.unlink(missing_ok=True)
    started = time.perf_counter()
    # -P: the folder of the worker must not become an import path, its files have common names.
    done = subprocess.run(
        [sys.executable, "-P", str(WORKER), str(job)],
        env=child_environment(project),
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    job.unlink()
    notebook = nbformat.read(part, as_version=4) if part.is_file() else None
    # sys.exit() ends a chapter without an error: cells that never ran are a failure too.
    said = (done.stdout.strip() or done.stderr.strip() or "no message").splitlines()
    problem = said[0] if notebook is None else _failure(notebook, done.returncode != 0, said[0], timeout)
    if problem:
        target.unlink(missing_ok=True)
        if notebook is not None:
            part.replace(failed)
        kept = f"\n       partial notebook: {failed.relative_to(project.root)}" if notebook is not None else ""
        print(f"FAIL   {source.stem}: {problem}{kept}", flush=True)
        return False
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    values_cell = chapter.injected(notebook)
    if values_cell is not None:
        values_cell.id = chapter.INJECTED  # papermill draws one at random
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    notebook.metadata["addlib"] = {**facts, "seconds": round(seconds, 1)}
    nbformat.write(notebook, part)
    part.replace(target)
    print(f"ok     {source.stem} {seconds:.1f} s", flush=True)
    return True


def _failure(notebook, worker_failed: bool, said: str, timeout: int) -> str | None:
    """Number, first lines and error of the code cell that did not complete; None if all did.

    ``said`` is the worker's own account: only it knows of a kernel that died.
    """
    cells = chapter.code_cells(notebook)
    culprit = next((number for number, cell in enumerate(cells, 1) if not _completed(cell)), None)
    if culprit is None:
        if not worker_failed:
            return None
        # Papermill marks the cell in which the kernel died as completed; those after it never started.
        culprit = max((n for n, cell in enumerate(cells, 1) if _status(cell) != "pending"), default=1)
    cell = cells[culprit - 1]
    lines = cell.source.strip().splitlines()
    shown = "\n".join(f"         {line}" for line in lines[:3] + (["..."] if len(lines) > 3 else []))
    error = next((output for output in cell.outputs if output.output_type == "error"), None)
    if error is None:
        reason = f"did not complete (exit, timeout or dead kernel): {said}"
    elif error.ename == "KeyboardInterrupt":  # what a cell sees when its time is over
        reason = f"interrupted; the limit for one cell is {timeout} s"
    else:
        reason = f"{error.ename}: {error.evalue}"
    # Terminal colours of a traceback are of no use in a log.
    reason = re.sub(r"\x1b\[[0-9;]*m", "", reason)
    return f"code cell {culprit}\n{shown}\n         {reason}"


def _status(cell) -> str:
    return cell.metadata.get("papermill", {}).get("status", "completed")


def _completed(cell) -> bool:
    failed = any(output.output_type == "error" for output in cell.outputs)
    return _status(cell) == "completed" and cell.execution_count is not None and not failed
