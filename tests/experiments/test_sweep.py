"""Sweeps of trainings that take seconds, in a project of their own."""

import shutil
from pathlib import Path

import pytest
import yaml

from addlib.experiments import read_results, sweep

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {"epochs": 1, "batch_size": 4, "validations": 1}
GOOD = {"quality": "c40", "distiller": ["none", "add"]}
BAD = {"quality": "c40", "distiller": "none", "detector": "resnet19"}


@pytest.fixture
def project(tmp_path, prepared):
    """A copy of what a sweep needs: where the book is, the notebook, and crops."""
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "_config.yml", tmp_path)
    shutil.copy(ROOT / "book" / "_toc.yml", tmp_path / "book")
    shutil.copytree(ROOT / "book" / "experiments", tmp_path / "book" / "experiments")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "crops").symlink_to(prepared)
    return tmp_path


def grid(project, *cells):
    common = {"manipulation": "FaceSwap", "detector": "resnet18_narrow", "recipe": "mini", "changes": CHANGES}
    content = {"profile": "smoke", "crops": "../data/crops", "common": common, "cells": list(cells)}
    path = project / "grid.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_failures_are_listed_and_the_rest_goes_on(project, capfd):
    assert sweep(grid(project, GOOD, BAD), workers=1, root=project) is False
    said = capfd.readouterr()
    assert "3 cells, 0 left alone, 3 to run" in said.out and "1 of 3 failed" in said.err
    assert "unknown detector 'resnet19'" in said.out
    table = read_results(project / "data" / "results" / "runs.csv")
    assert sorted(table["distiller"]) == ["add", "none"]
    assert (table["profile"] == "smoke").all() and (table["images"] > 0).all()
    trained = {path.parent.name.split("-")[1] for path in (project / "data" / "runs").glob("*/row.json")}
    assert trained == {"raw", "c40"}, "the teacher was trained for its student"
    logs = sorted(path.stem for path in (project / "book" / "_build" / "runs").glob("*.ipynb"))
    assert set(table["key"]) < set(logs) and len(logs) == 3

    assert sweep(grid(project, GOOD), workers=1, root=project) is True
    assert "2 cells, 2 left alone, 0 to run" in capfd.readouterr().out


def test_what_is_missing_is_named(project):
    with pytest.raises(ValueError, match=r"no grid .*nowhere.yaml; there are \[.*'tuning'"):
        sweep("nowhere", root=project)
    (project / "data" / "crops").unlink()
    with pytest.raises(FileNotFoundError, match="crops"):
        sweep(grid(project, GOOD), root=project)
