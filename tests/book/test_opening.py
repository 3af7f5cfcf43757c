"""Chapters opened by hand: the profile that they choose, and what Colab and Binder find."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from builder import BookError, fill_in
from builder.chapters import BY_HAND
from builder.project import as_bytes, code_cells, read, tags

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "book").glob("*.ipynb"))
DECLARED = 'profile = "auto"\nlevel = 1\nsteps = 10'


@pytest.fixture
def opened(tiny, monkeypatch):
    """A chapter with two profiles, and no word of either in the environment."""
    monkeypatch.delenv("ADDLIB_PROFILE", raising=False)
    tiny.chapter("02-number", ("compute", "code", "print(level)"), parameters=DECLARED)
    profile = "common: {profile: reader, level: 2}\nchapters: {02-number: {steps: 99}}\n"
    (tiny.book / "profiles" / "reader.yaml").write_text(profile)
    return tiny


def variables(**changes):
    return {"profile": "auto", "level": 1, "steps": 10, "other": 5, **changes}


def test_reader_on_a_gpu_smoke_elsewhere(opened, monkeypatch, capsys):
    reader, smoke = variables(profile="reader", level=2, steps=99), variables(profile="smoke")
    for found, expected in ((True, reader), (False, smoke)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        namespace = variables()
        fill_in("02-number", namespace, root=opened.root)
        assert namespace == expected
        assert f"profile {expected['profile']}: " in capsys.readouterr().out


def test_the_environment_decides_silently(opened, monkeypatch, capsys):
    monkeypatch.setenv("ADDLIB_PROFILE", "reader")
    namespace = variables()
    fill_in("02-number", namespace, root=opened.root)
    assert namespace["steps"] == 99
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("ADDLIB_PROFILE", "raeder")
    with pytest.raises(BookError, match="no profile 'raeder'; there are reader, smoke"):
        fill_in("02-number", variables(), root=opened.root)


def test_what_somebody_has_set_stays(opened, monkeypatch):
    monkeypatch.setenv("ADDLIB_PROFILE", "reader")
    namespace = variables(steps=3)
    fill_in("02-number", namespace, root=opened.root)
    assert namespace == variables(profile="reader", level=2, steps=3)
    injected = variables(profile="smoke")
    fill_in("no such chapter, and nobody asks", injected, root=opened.root)
    assert injected == variables(profile="smoke")
    with pytest.raises(BookError, match="no such chapter: 03-letter"):
        fill_in("03-letter", variables(), root=opened.root)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_chapter_opens_alike(path):
    """One cell after the parameters, the same everywhere but for the name; it names no address of its own."""
    cells = code_cells(read(path))
    places = [number for number, cell in enumerate(cells) if BY_HAND in tags(cell)]
    assert places == [1] and "parameters" in tags(cells[0])
    alike = code_cells(read(SOURCES[0]))[1]["source"].replace(SOURCES[0].stem, path.stem)
    assert cells[1]["source"] == alike
    assert f'fill_in("{path.stem}", globals())' in alike and "/content/addlib/postBuild" in alike
    assert "http" not in alike


@pytest.mark.parametrize("folder", ["", "book", "book/experiments"])
def test_papermill_from_any_folder_of_the_project(folder, tmp_path, monkeypatch):
    """A chapter names files as they are seen from book/; it goes there itself."""
    papermill = pytest.importorskip("papermill")
    monkeypatch.setenv("ADDLIB_PROFILE", "smoke")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(SOURCES[0])
    kept = code_cells(notebook)[:2]
    last = {**kept[1], "id": "last", "metadata": {}, "source": "import os\nassert os.path.isdir('profiles')"}
    (tmp_path / SOURCES[0].name).write_bytes(as_bytes({**notebook, "cells": [*kept, last]}))
    papermill.execute_notebook(tmp_path / SOURCES[0].name, tmp_path / "out.ipynb", cwd=ROOT / folder, progress_bar=False)


@pytest.mark.parametrize("place", ["Binder", "Colab"])
def test_post_build_installs_and_makes_the_data(tmp_path, place):
    """Run with a python and an addlib that only say what they were asked."""
    shutil.copy(ROOT / "postBuild", tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python", "addlib"):
        (tools / name).write_text(f'#!/bin/sh\necho "$PWD: {name} $*"\n')
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("COLAB_RELEASE_TAG", None)
    if place == "Colab":
        environment["COLAB_RELEASE_TAG"] = "release"
    done = subprocess.check_output([str(tmp_path / "postBuild")], cwd="/", env=environment, text=True)
    said = [line.removeprefix(f"{tmp_path}: ") for line in done.splitlines()]
    install = "-e .[video,train,book]" if place == "Colab" else "--no-deps -e ."
    assert said[0] == f"python -m pip install --quiet {install}"
    # The same data as 'make data'; the further people of 'make test-people' are for sweeps.
    made = re.findall(r"\$\(BIN\)/(addlib (?:generate|prepare) [^)]*\) .*?)\)$", (ROOT / "Makefile").read_text(), re.M)
    folders = {"$(VIDEOS)": "data/miniforensics", "$(CROPS)": "data/crops/miniforensics"}
    assert said[1:] == [re.sub(r"\$\(\w+\)", lambda match: folders[match[0]], line) for line in made] != []


def test_binder_finds_an_environment():
    assert (ROOT / "environment.yml").is_file() and os.access(ROOT / "postBuild", os.X_OK)
    assert not (ROOT / ".binder").exists() and not (ROOT / "binder").exists(), "Binder would look only there"
