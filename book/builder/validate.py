"""Expected text of the chapters, in small JSON files: written from executed copies, compared with by nbval."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from builder.chapters import VARIABLE, Chapter, chapters
from builder.project import BookError, Project, alone, as_bytes, code_cells, environment, read, run_all, tags
from builder.warm import warm_kernels

PROFILE = "smoke"  # whose text is expected
IGNORED = {"nbval-ignore-output", "nbval-skip"}  # nbval neither runs nor compares these


def refresh(names: list[str] | None = None, root: str | Path | None = None) -> bool:
    """Write tests/book/expected/NAME.json from each chapter's executed copy, which must be fresh."""
    project = Project(root)
    found = chapters(project, PROFILE, names)
    if bad := [f"{chapter.name} ({chapter.state})" for chapter in found if chapter.state != "fresh"]:
        raise BookError(f"not executed as they stand: {', '.join(bad)}; run 'make execute'")
    project.expected.mkdir(parents=True, exist_ok=True)
    for chapter in found:
        content = {"data": chapter.data, "cells": _texts(project, chapter.made)}
        path = project.expected / f"{chapter.name}.json"
        path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"wrote  {path.relative_to(project.root)}")
    return True


def validate(
    names: list[str] | None = None, jobs: int | None = None, timeout: int = 600, root: str | Path | None = None
) -> bool:
    """Run chapters with nbval and compare what they print with tests/book/expected.

    Where the local data differ from those that the expected text was made from (another encoder or CPU gives other
    bytes), the numbers must differ too: such a chapter is only run, not compared, and a line says so.
    """
    project = Project(root)
    with alone(project, "validating"):
        found = chapters(project, PROFILE, names)
        references = {chapter.name: reference(project, chapter) for chapter in found}
        with warm_kernels(environment(project), len(found)) as values:
            return run_all(found, lambda chapter: _nbval(project, values, *references[chapter.name], timeout), jobs)


def reference(project: Project, chapter: Chapter) -> tuple[Path, bool]:
    """Write the chapter with its expected outputs; its path, and whether the text is to be compared."""
    path, notebook = project.expected / f"{chapter.name}.json", read(chapter.source)
    if not path.is_file():
        raise BookError(f"{chapter.name} has no expected outputs ({path.name}); run 'make execute refresh', and read what it wrote")
    expected = json.loads(path.read_text(encoding="utf-8"))
    if chapter.data != expected["data"]:
        said = f"the data here ({chapter.data}) are not those of the expected text ({expected['data']})"
        print(f"{chapter.name}: {said}; its cells are run, their text is not compared", flush=True)
    for count, cell in enumerate(code_cells(notebook), 1):
        cell["execution_count"] = count  # nbval takes a cell without a count as never run, and compares nothing
        cell["outputs"] = [
            {"output_type": "stream", "name": kind, "text": kept[kind]}
            if (kind := next(iter(kept))) in ("stdout", "stderr")
            else {"output_type": "display_data", "metadata": {}, "data": kept}
            for kept in expected["cells"].get(cell["id"], [])
        ]
    # nbval runs a notebook where it lies, and counts code cells from 0: with this first cell its third is the chapter's.
    move = {"cell_type": "code", "execution_count": 0, "id": "move", "metadata": {}, "outputs": []}
    notebook["cells"].insert(0, move | {"source": f"import os\nos.chdir({str(project.book)!r})"})
    target = project.build / "validate" / chapter.source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(as_bytes(notebook))
    return target, chapter.data == expected["data"]


def _nbval(project: Project, values: dict[str, str], path: Path, strict: bool, timeout: int) -> bool:
    """One run of pytest, apart from the project's own settings and conftest files."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(path.parent), "--color=no"]
    command += ["-p", "nbval.plugin", "-p", "no:cacheprovider", "--nbval" if strict else "--nbval-lax"]
    command += ["--nbval-current-env", f"--nbval-cell-timeout={timeout}"]
    command += ["--nbval-sanitize-with", str(project.root / "tests" / "book" / "nbval.cfg"), str(path)]
    # The chapters run as they stand, which leaves the profile open. Other plugins cost a second a chapter.
    values = values | {VARIABLE: PROFILE, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=project.root, env=values, capture_output=True, text=True)
    word, said = ("FAIL  ", f"\n{done.stdout}{done.stderr}") if done.returncode else ("ok    ", "")
    print(f"{word} {path.stem} {time.perf_counter() - started:.1f} s{said}", flush=True)
    return not done.returncode


def _texts(project: Project, executed: dict) -> dict[str, list]:
    """Text outputs of an executed notebook by cell id; images are dropped, cells that nbval ignores are left out."""
    from nbval.plugin import get_sanitize_patterns

    # Replacements are applied here too, so that a new time or address is no difference to review.
    settings = (project.root / "tests" / "book" / "nbval.cfg").read_text(encoding="utf-8")
    patterns, kept = list(get_sanitize_patterns(settings)), {}
    for cell in code_cells(executed):
        if IGNORED & set(tags(cell)):
            continue
        for output in cell["outputs"]:
            stream = output["output_type"] == "stream"
            texts = {output["name"]: output["text"]} if stream else output.get("data", {})
            texts = {kind: "".join(text) for kind, text in texts.items() if stream or kind.startswith("text/")}
            for pattern, replacement in patterns:
                texts = {kind: re.sub(pattern, replacement, text) for kind, text in texts.items()}
            if texts:
                lines = {kind: text.splitlines(keepends=True) for kind, text in texts.items()}
                kept.setdefault(cell["id"], []).append(lines)
    return kept
