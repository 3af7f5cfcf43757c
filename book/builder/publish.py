"""Merge prose and executed copies into a stage, and build the site from it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from addlib import provenance
from builder.chapters import BY_HAND, Chapter, chapters
from builder.project import INJECTED, BookError, Project, alone, as_bytes, environment, tags

# Sliders need a kernel: on a page they would be a line of text and scripts from elsewhere.
WIDGET = "application/vnd.jupyter.widget-view+json"
LEFT_OUT = {"_build", "builder", "experiments", "lab", "profiles", "__pycache__", ".ipynb_checkpoints", ".virtual_documents"}
# What other pages show of a page, or lead to: a change of it builds all pages again.
SKELETON = re.compile(r'^#+ .*|^\([^)\s]+\)=|:(?:label|name):.*|"name": ".*|^\$\$ *\(.*|\\label\{.*?\}', re.M)


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
        texts = {name: content.decode(errors="replace").replace("\\n", "\n") for name, content in files.items()}
        shared = [text for name, text in texts.items() if name.startswith(("_", "ref"))]  # settings, extensions, references
        skeleton = provenance.digest([shared, [SKELETON.findall(text) for text in texts.values()], str(project.root)])
        library = [path.read_text(encoding="utf-8") for path in sorted(project.root.glob("addlib/**/*.py"))]
        now, stamp = f"{skeleton} {provenance.digest([texts, library])}", project.build / "published.txt"
        before = stamp.read_text() if stamp.is_file() else ""
        if fresh := before == now and (project.html / "index.html").is_file():
            print(f"fresh  {project.html / 'index.html'}")
            return fresh
        stamp.unlink(missing_ok=True)  # a build that fails is followed by a whole one, which repeats every warning
        if not before.startswith(skeleton):
            shutil.rmtree(project.build / "jb", ignore_errors=True)
        if done := _build(project, files):
            stamp.write_text(now)
            print(f"published {project.html / 'index.html'}")
        return done


def merge(chapter: Chapter) -> dict:
    """The chapter as it is now, with the outputs of its executed copy, cell by cell id, and how it was made.

    The chapter's parameters stay as a folded cell; those that papermill put after them are removed from the page but not
    from the notebook that a reader downloads. Widgets are left out: they live in JupyterLab.
    """
    made, cells = {cell["id"]: cell for cell in chapter.made["cells"]}, []
    values = made.get(INJECTED, {"source": ""})
    for cell in chapter.notebook["cells"]:
        cells.append(cell)
        if BY_HAND in tags(cell):
            cell["metadata"]["tags"] = [BY_HAND, "remove-cell"]
        elif cell["cell_type"] == "code":
            cell["execution_count"] = made[cell["id"]]["execution_count"]
            cell["outputs"] = [output for output in made[cell["id"]]["outputs"] if WIDGET not in output.get("data", {})]
            if "parameters" in tags(cell):
                cell["metadata"]["tags"] = ["parameters", "hide-input"]
                cells += [values | {"metadata": {"tags": [INJECTED, "remove-cell"]}}] if INJECTED in made else []
    title = next(cell for cell in cells if re.search("^# ", cell["source"], re.M))
    own = re.findall("^[^#\n].*", values["source"], re.M)
    banner = _render("banner.html", facts=chapter.made["metadata"]["addlib"], parameters=own)
    title["source"] = re.sub("^# .*", lambda line: f"{line[0]}\n\n{banner}\n", title["source"], count=1, flags=re.M)
    return {**chapter.notebook, "metadata": chapter.notebook["metadata"] | chapter.made["metadata"], "cells": cells}


def _render(template: str, **values) -> str:
    from jinja2 import Environment, FileSystemLoader

    folder = FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    return Environment(loader=folder, autoescape=template.endswith(".html")).get_template(template).render(values)


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
    """The stage: book/ with merged chapters, the protocol and rows of data/, the status page and the settings.

    The settings name the repository if there is one.
    """
    import yaml

    paths = {path.relative_to(project.book): path for path in project.book.rglob("*") if path.suffix != ".ipynb"}
    files = {name.as_posix(): path for name, path in paths.items() if path.is_file() and not LEFT_OUT & set(name.parts)}
    settings = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    if address := repository(project.root):
        settings["repository"]["url"] = address
        if "gitlab" in address:
            del settings["launch_buttons"]["colab_url"]
    else:
        del settings["repository"], settings["launch_buttons"]
        settings["html"] |= {f"use_{kind}_button": False for kind in ("repository", "edit_page", "issues")}
    status = _render("status.md", made={chapter.name: chapter.made["metadata"]["addlib"] for chapter in found})
    made = {"status.md": status.encode(), "_config.yml": yaml.safe_dump(settings, sort_keys=False).encode()}
    merged = {chapter.source.name: as_bytes(merge(chapter)) for chapter in found}
    data = project.root / "data"
    taken = {"protocol.md": data / "protocol.md"} | {f"rows/{path.name}": path for path in data.glob("results/*.csv")}
    taken = {name: path for name, path in taken.items() if path.is_file()}
    return {name: path.read_bytes() for name, path in (files | taken).items()} | merged | made


def _build(project: Project, files: dict[str, bytes]) -> bool:
    """Bring the stage up to date, run Jupyter Book on it, and swap its site in."""
    stage, work, new = (project.build / name for name in ("stage", "jb", "html.new"))
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
    warnings = [line for line in lines if re.search("WARNING|ERROR|threw an exception", line)]
    if done.returncode or warnings:
        print("the builder failed:\n  " + "\n  ".join(warnings or lines[-20:]), file=sys.stderr)
        return False
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(work / "_build" / "html", new)
    shutil.rmtree(project.html, ignore_errors=True)
    new.rename(project.html)
    return True
