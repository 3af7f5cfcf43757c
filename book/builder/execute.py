"""Execute stale chapters with papermill."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from addlib import provenance
from builder.chapters import Chapter, chapters, time_limit
from builder.project import INJECTED, Project, alone, as_bytes, code_cells, environment, read, run_all, tags
from builder.validate import PROFILE

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
        for chapter in found:
            if chapter.state == "fresh" and not force:
                print(f"fresh  {chapter.name}", flush=True)
        stale = [chapter for chapter in found if force or chapter.state != "fresh"]
        if not stale:
            return True
        record = {"profile": profile, **provenance.record(project.root)}
        with _isolated(project):
            return run_all(stale, lambda chapter: _run(project, chapter, record, timeout), jobs)


@contextmanager
def _isolated(project: Project):
    """This process, whose kernels inherit it, in the book's folder and environment."""
    before, folder = dict(os.environ), os.getcwd()
    os.environ.clear()
    os.environ.update(environment(project))
    os.chdir(project.book)
    try:
        if not list(Path(os.environ["MPLCONFIGDIR"]).glob("fontlist*")):
            # Made beforehand: on a slow machine Matplotlib would complain on a page about the time that it takes.
            subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], capture_output=True)
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)


def _run(project: Project, chapter: Chapter, record: dict, timeout: int) -> bool:
    """Execute one chapter; its line is printed as soon as it is done."""
    import papermill

    target, failed, part = (chapter.executed.with_suffix(kind) for kind in (".ipynb", ".failed.ipynb", ".part.ipynb"))
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (part, failed):
        leftover.unlink(missing_ok=True)
    started, problem, notebook = time.perf_counter(), "", None
    paths = [re.sub("([{}])", r"\1\1", str(path)) for path in (chapter.source, part)]  # papermill fills in braces otherwise
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
    if part.is_file():
        notebook = read(part)
        ended = [cell["execution_count"] is not None for cell in code_cells(notebook)]
        if not all(ended) and not problem:
            problem = f"code cell {ended.index(False) + 1} did not complete: the chapter ended before, by sys.exit() perhaps"
    if problem:
        target.unlink(missing_ok=True)
        if notebook:
            part.replace(failed)
            problem += f"\npartial notebook: {failed.relative_to(project.root)}"
        print(f"FAIL   {chapter.name}: " + problem.replace("\n", "\n       "), flush=True)
        return False
    for cell in notebook["cells"]:
        cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name not in ("papermill", "execution")}
        cell["id"] = INJECTED if INJECTED in tags(cell) else cell["id"]  # papermill draws one at random
    kept = {name: value for name, value in notebook["metadata"].items() if name not in ("papermill", "widgets")}
    facts = {"data": chapter.data, "key": chapter.key, "seconds": round(seconds, 1)}
    part.write_bytes(as_bytes({**notebook, "metadata": {**kept, "addlib": record | facts}}))
    part.replace(target)
    print(f"ok     {chapter.name} {seconds:.1f} s", flush=True)
    return True
