"""Run the chapters with nbval and compare what they print with the expected text."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from addlib.book import chapter, expected
from addlib.book.freshness import Freshness
from addlib.book.opening import VARIABLE
from addlib.book.project import BookError, Project, child_environment, locate


def validate(
    profile: str = "smoke",
    names: list[str] | None = None,
    jobs: int = 2,
    timeout: int = 600,
    root: str | Path | None = None,
) -> bool:
    """Run each chapter as it stands under nbval; True if all cells run and print what is expected.

    Where the local data differ from those that the expected text was made from (another encoder or CPU gives other
    bytes), the numbers must differ too: such a chapter is only run, not compared, and a line says so.
    """
    project = locate(root)
    expected.check_profile(profile)
    freshness = Freshness(project, profile)
    sources = project.chapters(names)
    folder = project.build / "validate"
    folder.mkdir(parents=True, exist_ok=True)
    strict, lax = [], []
    for source in sources:
        kept = expected.load(project, source)
        path = folder / source.name
        nbformat.write(reference(project, source, kept["cells"]), path)
        local = freshness.data_hash(source)
        if local == kept["data"]:
            strict.append(path)
        else:
            print(
                f"{source.stem}: the data here ({local}) are not those of the expected text ({kept['data']}); "
                "its cells are run, their text is not compared",
                flush=True,
            )
            lax.append(path)
    results = [
        _nbval(project, paths, flag, jobs, timeout, profile)
        for paths, flag in ((strict, "--nbval"), (lax, "--nbval-lax"))
        if paths
    ]
    return all(results)


def reference(project: Project, source: Path, cells: dict[str, list]) -> NotebookNode:
    """The chapter with its expected outputs, and a first cell that moves the kernel to book/.

    nbval runs a notebook in the folder where it lies. It also counts code cells from 0, so that with this first cell
    its "Cell 3" is the chapter's third.
    """
    notebook = copy.deepcopy(chapter.read(source))
    unknown = sorted(set(cells) - {cell.id for cell in notebook.cells})
    if unknown:
        raise BookError(
            f"{source.stem}: expected text for cells that do not exist: {', '.join(unknown)}; "
            "run 'addlib book refresh' and read what it wrote"
        )
    for count, cell in enumerate(chapter.code_cells(notebook), 1):
        # nbval takes a cell without a count as never run, and compares nothing.
        cell.execution_count = count
        cell.outputs = expected.as_outputs(cells.get(cell.id, []))
    move = new_code_cell(f"import os\nos.chdir({str(project.book)!r})", execution_count=0, id="addlib-chdir")
    notebook.cells.insert(0, move)
    return notebook


def _nbval(project: Project, paths: list[Path], flag: str, jobs: int, timeout: int, profile: str) -> bool:
    """One run of pytest, apart from the project's own settings and conftest files."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(project.build / "validate")]
    command += ["-p", "no:cacheprovider", "--color=no", flag, "--nbval-current-env", f"--nbval-cell-timeout={timeout}"]
    sanitize = project.root / "tests" / "book" / "nbval.cfg"
    if sanitize.is_file():
        command += ["--nbval-sanitize-with", str(sanitize)]
    jobs = min(jobs, len(paths))
    if jobs > 1:
        # loadfile: the cells of one notebook share a kernel, so they must not be spread over workers.
        command += ["-n", str(jobs), "--dist", "loadfile"]
    # The chapters run as they stand, and expected text is of this profile.
    environment = {**child_environment(project), VARIABLE: profile}
    done = subprocess.run([*command, *map(str, paths)], cwd=project.root, env=environment)
    return done.returncode == 0
