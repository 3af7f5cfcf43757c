"""Merge prose and executed copies into a stage, and build the site from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from addlib import provenance
from builder.chapters import BY_HAND, Chapter, chapters
from builder.project import INJECTED, BookError, Project, alone, as_bytes, code_cells, environment, tags

# Sliders need a kernel: on a page they would be a line of text and scripts from elsewhere.
WIDGET = "application/vnd.jupyter.widget-view+json"
LEFT_OUT = {"_build", "builder", "experiments", "profiles", "__pycache__", ".ipynb_checkpoints", ".virtual_documents"}
# What other pages show of a page, or lead to: a change of it builds all pages again.
SKELETON = re.compile(r'^#+ .*|^\([^)\s]+\)=|:(?:label|name):.*|"name": ".*|^\$\$ *\(.*|\\label\{.*?\}', re.M)
SMOKE = "<p><strong>Smoke run.</strong> These numbers only show that the code runs; they are no results.</p>"


def publish(profile: str = "smoke", root: str | Path | None = None) -> bool:
    """Build book/_build/html from the executed chapters; refuse missing, stale and failed ones by name.

    Pages carry the prose of the sources as it is now and the outputs of the executed copies. Only what changed is built.
    Any warning fails the build, and the site that was there before stays.
    """
    project = Project(root)
    with alone(project, "publishing"):
        found = chapters(project, profile)
        if bad := [f"{chapter.name} ({chapter.state})" for chapter in found if chapter.state != "fresh"]:
            raise BookError(f"cannot publish {', '.join(bad)}; run 'make execute PROFILE={profile}'")
        files = _files(project, found)
        library = {path.name: path.read_text(encoding="utf-8") for path in project.root.glob("addlib/**/*.py")}
        texts = {name: content.decode(errors="replace").replace("\\n", "\n") for name, content in files.items()}
        pages = [text for name, text in texts.items() if name.endswith((".md", ".ipynb"))]
        others = [text for name, text in texts.items() if not name.startswith("assets/") and text not in pages]
        skeleton = provenance.digest([others, [SKELETON.findall(text) for text in pages], environment(project)["PYTHONPATH"]])
        now, stamp = f"{skeleton} {provenance.digest([texts, library])}", project.build / "published.txt"
        before = stamp.read_text() if stamp.is_file() else " "
        if before != now or not (project.html / "index.html").is_file():
            stamp.unlink(missing_ok=True)  # a build that failed is followed by a whole one, which repeats every warning
            if before.split(" ")[0] != skeleton:
                shutil.rmtree(project.build / "jb", ignore_errors=True)
            if not _build(project, files):
                return False
            stamp.write_text(now)
        print(f"{'fresh ' if before == now else 'published'} {project.html / 'index.html'}")
        return True


def merge(chapter: Chapter) -> dict:
    """The chapter as it is now, with the outputs of its executed copy, cell by cell id, and a line on how it was made.

    The chapter's parameters stay as a folded cell; those that papermill put after them are removed from the page but not
    from the notebook that a reader downloads. Widgets are left out: they live in JupyterLab.
    """
    made = {cell["id"]: cell for cell in chapter.made["cells"]}
    notebook = {**chapter.notebook, "metadata": {**chapter.notebook["metadata"], **chapter.made["metadata"]}, "cells": []}
    for cell in chapter.notebook["cells"]:
        notebook["cells"].append(cell)
        if cell["cell_type"] != "code":
            continue
        own = tags(cell)
        if BY_HAND in own:
            cell["metadata"]["tags"] = [*own, "remove-cell"]
            continue
        copy = made[cell["id"]]
        cell["execution_count"] = copy["execution_count"]
        cell["outputs"] = [output for output in copy["outputs"] if WIDGET not in output.get("data", {})]
        if "parameters" in own:
            cell["metadata"]["tags"] = [*own, "hide-input"]
            if INJECTED in made:
                made[INJECTED]["metadata"]["tags"] = [INJECTED, "remove-cell"]
                notebook["cells"].append(made[INJECTED])
    title = next(cell for cell in notebook["cells"] if re.search("^# ", cell["source"], re.M))
    values = made[INJECTED]["source"].splitlines() if INJECTED in made else []
    title["source"] = re.sub("^# .*", lambda line: f"{line[0]}\n\n{_banner(chapter, values)}\n", title["source"], count=1, flags=re.M)
    return notebook


def _banner(chapter: Chapter, values: list[str]) -> str:
    """How the numbers on the page were made; HTML without a blank line, so that the search does not find it everywhere."""
    facts = chapter.made["metadata"]["addlib"]

    def rows(**items):
        return "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in items.items())

    smoke, run = facts["profile"] == "smoke", f"{facts['seconds']:.0f} s on {facts['date']}"
    shown = rows(
        Profile=facts["profile"], Device=facts["device"], Commit=facts["commit"], Data=facts["data"] or "none", Run=run
    )
    versions = " · ".join(f"{name} {number}" for name, number in facts["versions"].items())
    more = rows(Versions=versions, Parameters=" · ".join(line for line in values if line and line[0] != "#"))
    return (
        f'<div class="provenance{" smoke" if smoke else ""}" role="note">{SMOKE if smoke else ""}<dl>{shown}</dl>'
        f"<details><summary>Versions and parameters</summary><dl>{more}</dl></details></div>"
    )


def _status(found: list[Chapter]) -> str:
    """The page of all chapters with result, time and provenance."""
    rows = ["| Chapter | Result | Run time | Profile | Device | Date | Commit | Data |", "| --- " * 8 + "|"]
    every = [chapter.made["metadata"]["addlib"] for chapter in found]
    for chapter, facts in zip(found, every, strict=True):
        named = [str(facts[name] or "none").replace("|", "/") for name in ("profile", "device", "date", "commit", "data")]
        rows.append(f"| {{doc}}`{chapter.name}` | passed | {facts['seconds']:.0f} s | {' | '.join(named)} |")
    versions = sorted({", ".join(f"{name} {number}" for name, number in facts["versions"].items()) for facts in every})
    return "\n".join(
        ["# Status of this build", "", "Every line comes from the record that the run of a chapter left behind.", "", *rows, ""]
        + [f"All chapters together: {sum(facts['seconds'] for facts in every):.0f} s. Made with {'; '.join(versions)}.", ""]
    )


def repository(root: Path) -> str:
    """Address of the project on GitHub or GitLab: what ADDLIB_REPOSITORY_URL says, else git's origin; "" without one."""
    address = os.environ.get("ADDLIB_REPOSITORY_URL")
    if address is None:
        command = ["git", "-C", str(root), "remote", "get-url", "origin"]
        address = subprocess.run(command, capture_output=True, text=True).stdout
    address = re.sub(r"^(ssh://)?git@([^:/]+)[:/]", r"https://\2/", address.strip()).rstrip("/").removesuffix(".git")
    address = re.sub(r"^(https?://)[^/@]*@", r"\1", address)  # no password on a page
    return address if re.match(r"https?://[^/]*(github|gitlab)[^/]*/.+/.+", address) else ""


def _files(project: Project, found: list[Chapter]) -> dict[str, bytes]:
    """The stage: book/ with merged chapters, the status page and the settings for this machine."""
    import yaml

    paths = {path.relative_to(project.book): path for path in project.book.rglob("*") if path.suffix != ".ipynb"}
    files = {
        name.as_posix(): path.read_bytes() for name, path in paths.items() if not LEFT_OUT & set(name.parts) and path.is_file()
    }
    settings = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    if address := repository(project.root):
        settings["repository"]["url"] = address
        if "github" not in urlsplit(address).netloc:
            settings["launch_buttons"].pop("colab_url")
    else:
        del settings["repository"], settings["launch_buttons"]
        settings["html"] |= {f"use_{kind}_button": False for kind in ("repository", "edit_page", "issues")}
    files |= {chapter.source.name: as_bytes(merge(chapter)) for chapter in found}
    made = {"status.md": _status(found), "_config.yml": yaml.safe_dump(settings, sort_keys=False)}
    return files | {name: text.encode() for name, text in made.items()}


def _build(project: Project, files: dict[str, bytes]) -> bool:
    """Bring the stage up to date, run Jupyter Book on it, and swap its site in."""
    stage, work = project.build / "stage", project.build / "jb"
    for path in stage.rglob("*"):
        if path.is_file() and path.relative_to(stage).as_posix() not in files:
            path.unlink()
    for name, content in files.items():
        path = stage / name
        if not path.is_file() or path.read_bytes() != content:  # the time of a file decides whether its page is built
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "-q", "-W", "--keep-going"]
    command += ["--path-output", str(work), str(stage)]
    done = subprocess.run(command, cwd=project.root, env=environment(project), capture_output=True, text=True)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).splitlines()
    warnings = [line for line in lines if "WARNING" in line or "ERROR" in line]
    site, new, old = work / "_build" / "html", project.build / "html.new", project.build / "html.old"
    if done.returncode or warnings or not (site / "index.html").is_file():
        print("the builder failed:\n  " + "\n  ".join(warnings or lines[-20:]), file=sys.stderr)
        return False
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(site, new)
    if project.html.exists():
        project.html.rename(old)
    new.rename(project.html)
    shutil.rmtree(old, ignore_errors=True)
    return True
