"""Stage the executed chapters and build the site."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from addlib.book import alt, chapter, pages
from addlib.book.freshness import Freshness
from addlib.book.project import BookError, Project, child_environment, locate

# Sliders need a kernel: on a page they would be a line of text and scripts from elsewhere.
WIDGET = "application/vnd.jupyter.widget-view+json"

# Nothing of these belongs on a page: builds, sources that are staged apart, and what only runs.
LEFT_OUT = ("_build", "*.ipynb", ".ipynb_checkpoints", ".virtual_documents", "profiles", "experiments")


def publish(profile: str = "smoke", root: str | Path | None = None) -> bool:
    """Build book/_build/html from the executed chapters; refuse missing, stale and failed ones by name.

    The pages carry the prose of the sources as they are now and the outputs of the executed copies. Any warning of the
    builder fails the build, and the site that was there before stays.
    """
    project = locate(root)
    sources = project.chapters()
    freshness = Freshness(project, profile)
    bad = [f"{source.stem} ({state})" for source in sources if (state := freshness.state(source)) != "fresh"]
    if bad:
        raise BookError(f"cannot publish {', '.join(bad)}; run 'addlib book execute --profile {profile}'")
    merged = {source: merge(source, project.executed(profile) / source.name) for source in sources}
    problems = [problem for source, notebook in merged.items() for problem in alt.problems(notebook, source.stem)]
    for page in sorted(project.book.glob("*.md")):
        problems += [f"{page.name}: {problem}" for problem in alt.markdown_problems(page.read_text(encoding="utf-8"))]
    if problems:
        raise BookError("images without alt text:\n  " + "\n  ".join(problems))
    _stage(project, merged, profile)
    return _build(project)


def merge(source: Path, executed: Path) -> NotebookNode:
    """The source as it is now, with the outputs of its executed copy, cell by cell id.

    The source's parameters stay as a folded cell; those that papermill put after them are removed from the page but
    not from the notebook that a reader downloads. Widgets are left out: they live in JupyterLab.
    """
    made = chapter.read(executed)
    by_id = {cell.id: cell for cell in chapter.code_cells(made)}
    notebook = copy.deepcopy(chapter.read(source))
    notebook.metadata.update({key: made.metadata[key] for key in ("addlib", "language_info") if key in made.metadata})
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        if chapter.BY_HAND in chapter.tags(cell):
            cell.metadata["tags"] = [*chapter.tags(cell), "remove-cell"]
            continue
        cell.outputs = [output for output in by_id[cell.id].outputs if WIDGET not in output.get("data", {})]
        cell.execution_count = by_id[cell.id].execution_count
        if "parameters" in chapter.tags(cell):
            cell.metadata["tags"] = [*chapter.tags(cell), "hide-input"]
            values = chapter.injected(made)
            if values is not None:
                values.metadata["tags"] = [chapter.INJECTED, "remove-cell"]
                cells.append(values)
    notebook.cells = cells
    return notebook


def _stage(project: Project, merged: dict[Path, NotebookNode], profile: str) -> None:
    """Mirror book/ into the stage, with the merged chapters, the status page, the settings and MathJax."""
    stage = project.stage
    if stage.exists():
        shutil.rmtree(stage)
    shutil.copytree(project.book, stage, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (stage / "status.md").write_text(
        pages.status([(source.stem, notebook) for source, notebook in merged.items()], profile), encoding="utf-8"
    )
    for source, notebook in merged.items():
        pages.with_banner(notebook)
        nbformat.write(notebook, stage / source.name)
    settings = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    url = os.environ.get("ADDLIB_REPOSITORY_URL")
    if url:
        settings.setdefault("repository", {})["url"] = url
    (stage / "_config.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    target = stage / "assets" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy2(mathjax(), target / "tex-svg-full.js")


def mathjax() -> Path:
    """MathJax's one-file build (all of TeX, SVG output), as the installed package sphinx-mathjax-offline brings it."""
    try:
        for file in files("sphinx-mathjax-offline") or []:
            if file.name == "tex-svg-full.js":
                return Path(file.locate())
    except PackageNotFoundError:
        pass
    raise BookError("MathJax not found; install the book's extras: pip install sphinx-mathjax-offline")


def _build(project: Project) -> bool:
    """Run Jupyter Book on the stage and swap its site in."""
    work = project.build / "jb"
    shutil.rmtree(work, ignore_errors=True)  # a kept build would not repeat the warnings of unchanged pages
    script = Path(sys.executable).with_name("jupyter-book")
    command = [str(script), "build", "-q", "-W", "--keep-going", "--path-output", str(work)]
    command += ["--config", str(project.stage / "_config.yml"), "--toc", str(project.stage / "_toc.yml")]
    done = subprocess.run(
        [*command, str(project.stage)],
        cwd=project.root,
        env=child_environment(project),
        capture_output=True,
        text=True,
    )
    site = work / "_build" / "html"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).splitlines()
    warnings = [line for line in lines if "WARNING" in line or "ERROR" in line]
    if done.returncode or warnings or not (site / "index.html").is_file():
        print("the builder failed:\n  " + "\n  ".join(warnings or lines[-20:]), file=sys.stderr)
        return False
    old = project.build / "html.old"
    shutil.rmtree(old, ignore_errors=True)
    if project.html.exists():
        project.html.rename(old)
    site.rename(project.html)
    shutil.rmtree(old, ignore_errors=True)
    print(f"published {project.html / 'index.html'}")
    return True
