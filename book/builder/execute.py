"""Execute stale chapters with papermill."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from addlib import provenance
from builder.chapters import Chapter, chapters, time_limit
from builder.project import INJECTED, Project, alone, as_bytes, code_cells, environment, read, run_all, tags
from builder.validate import PROFILE
from builder.warm import warm_kernels

# Expected text is that of one profile. With other networks and data a finding may be another, hours after the start.
SOFTENED = Path(__file__).with_name("softened.py")


def execute(
    profile: str = "smoke",
    names: list[str] | None = None,
    jobs: int | None = None,
    timeout: int | None = None,
    force: bool = False,
    root: str | Path | None = None,
) -> bool:
    """Run stale chapters with papermill, the longest first.

    Prints one line per chapter; one that fails does not stop the others. Executed copies go to
    book/_build/executed/PROFILE, a failed one is kept there as NAME.failed.ipynb and never published. ``jobs`` chapters
    run at once (None: one a core), with ``timeout`` seconds for each cell (None: as the profile says). True if every chapter is fresh in the end.
    """
    project = Project(root)
    with alone(project, f"executing the chapters of profile {profile}"):
        found, timeout = chapters(project, profile, names), timeout or time_limit(project, profile)
        stale = [chapter for chapter in found if force or chapter.state != "fresh"]
        for chapter in (chapter for chapter in found if chapter not in stale):
            print(f"fresh  {chapter.name}", flush=True)
        if not stale:
            return True
        record = {"profile": profile, **provenance.record(project.root)}
        # Kernels inherit folder and environment of this process.
        warm = warm_kernels(environment(project), len(stale))
        with contextlib.chdir(project.book), warm as values, mock.patch.dict(os.environ, values, clear=True):
            if not list(Path(os.environ["MPLCONFIGDIR"]).glob("fontlist*")):
                # Made beforehand: on a slow machine Matplotlib would complain on a page about the time that it takes.
                subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], capture_output=True)
            return run_all(stale, lambda chapter: _run(project, chapter, record, timeout), jobs)


def _run(project: Project, chapter: Chapter, record: dict, timeout: int) -> bool:
    """Execute one chapter; its line is printed as soon as it is done."""
    import papermill

    partial = chapter.executed.with_suffix(".failed.ipynb")  # until it is complete
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    started, problem = time.perf_counter(), ""
    paths = [re.sub("([{}])", r"\1\1", str(path)) for path in (chapter.source, partial)]  # else papermill fills in braces
    arguments = ["--log-level=CRITICAL"]
    if record["profile"] != PROFILE:
        arguments.append(f"--IPKernelApp.exec_files={SOFTENED}")
    try:
        papermill.execute_notebook(
            *paths, chapter.given, kernel_name="python3", progress_bar=False, start_timeout=120, execution_timeout=timeout,
            coalesce_streams=True, extra_arguments=arguments,  # a busy kernel sends one text in several pieces
        )  # fmt: skip
    except Exception as error:
        # Papermill names the cell and shows its traceback; terminal colours are of no use in a log.
        said = re.sub(r"\x1b\[[0-9;]*m|^-+\n", "", str(error)).strip()
        problem = f"{type(error).__name__}; the limit for one cell is {timeout} s\n{said}"
    seconds = time.perf_counter() - started
    notebook = read(partial) if partial.is_file() else {"cells": []}
    ended = [cell["execution_count"] is not None for cell in code_cells(notebook)]
    if not all(ended) and not problem:
        problem = f"code cell {ended.index(False) + 1} did not complete: the chapter ended before, by sys.exit() perhaps"
    if problem:
        chapter.executed.unlink(missing_ok=True)
        problem += f"\npartial notebook: {partial.relative_to(project.root)}" if partial.is_file() else ""
        print(f"FAIL   {chapter.name}: " + problem.replace("\n", "\n       "), flush=True)
        return False
    for cell in notebook["cells"]:
        cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name not in ("papermill", "execution")}
        cell["id"] = INJECTED if INJECTED in tags(cell) else cell["id"]  # papermill draws one at random
    kept = {name: value for name, value in notebook["metadata"].items() if name not in ("papermill", "widgets")}
    facts = {"data": chapter.data, "key": chapter.key, "seconds": round(seconds, 1)}
    partial.write_bytes(as_bytes({**notebook, "metadata": {**kept, "addlib": record | facts}}))
    partial.replace(chapter.executed)
    print(f"ok     {chapter.name} {seconds:.1f} s", flush=True)
    return True
