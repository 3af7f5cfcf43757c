"""Sweeps of trainings that take seconds, in a project of their own."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from addlib.experiments import Cell, read_results, sweep
from addlib.faceforensics import data_hash

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


def grid(project, *cells, **more):
    common = {"manipulation": "FaceSwap", "detector": "resnet18_narrow", "recipe": "mini", "changes": CHANGES}
    content = {"profile": "smoke", "crops": "../data/crops", "common": common, "cells": list(cells)} | more
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


# A notebook of another kind: leaves its process number, waits to be killed if told so, then writes its row.
MEASURE = """
import os, time
from pathlib import Path
from addlib.experiments import Cell, record_measurements
folder = Path("../../data")
(folder / f"pid-{seed}").write_text(str(os.getpid()))
while (folder / f"wait-{seed}").exists():
    time.sleep(0.05)
cell = Cell(manipulation, quality, detector, recipe=recipe, changes=changes, seed=seed)
rows = [{"data": data, "condition": name} for name in ("dark", "bright")]
record_measurements(cell, profile, rows, folder / "results" / "measure.csv")
"""


@pytest.mark.slow
def test_a_killed_run_is_listed_and_run_by_the_next_sweep(project, capfd):
    data = project / "data"
    unused = [name for name in Cell.__dataclass_fields__ if name not in ("manipulation", "quality", "detector")]
    defaults = [f"{name} = None" for name in (*unused, "manipulation", "quality", "detector", "profile", "crops")]
    parameters = nbformat.v4.new_code_cell("\n".join(defaults), metadata={"tags": ["parameters"]})
    measure = nbformat.v4.new_code_cell(f"data = {data_hash(data / 'crops')!r}" + MEASURE)
    notebook = nbformat.v4.new_notebook(cells=[parameters, measure])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, project / "book" / "experiments" / "measure.ipynb")
    cells = grid(project, {"quality": "c40", "seed": [0, 1, 2]}, notebook="measure")
    (data / "wait-1").touch()

    def kill():
        deadline = time.monotonic() + 120
        while not (pid := data / "pid-1").exists() or not pid.read_text():
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        (data / "wait-1").unlink()
        os.kill(int(pid.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert sweep(cells, workers=1, root=project) is False
    killer.join()
    said = capfd.readouterr()
    assert "FAIL  FaceSwap c40 resnet18_narrow none seed 1" in said.out and "1 of 3 failed" in said.err
    table = read_results(data / "results" / "measure.csv")
    assert table["seed"].tolist() == [0, 0, 2, 2] and not (data / "results" / "runs.csv").exists()

    assert sweep(cells, workers=1, root=project) is True
    assert "3 cells, 2 left alone, 1 to run" in capfd.readouterr().out
    table = read_results(data / "results" / "measure.csv")
    assert table["seed"].tolist() == [0, 0, 1, 1, 2, 2] and table["condition"].tolist() == ["dark", "bright"] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notebook", "conditions"),
    [("look", {"none", "noise 20", "shuffle"}), ("outside", {"raw", "c23", "c40", "jpeg 75", "h264 30"})],
)
def test_trained_networks_are_measured(project, tree, prepared, notebook, conditions):
    """The notebooks of this repository, from the grid to the rows, on the networks of one seed."""
    data = project / "data"
    (data / "crops").unlink()
    shutil.copytree(prepared, data / "crops" / "small")
    shutil.copytree(tree, data / "small")
    cells = grid(project, {"quality": "c40", "distiller": "add"}, notebook=notebook, crops="../data/crops/small")
    assert sweep(cells, workers=1, root=project) is True
    table = read_results(data / "results" / f"{notebook}.csv")
    assert conditions <= set(table["condition"])
    assert (table["key"] == table["key"].iloc[0]).all() and (table["distiller"] == "add").all()
    assert not (data / "results" / "runs.csv").exists(), "only train.ipynb writes there"
    assert sweep(cells, workers=1, root=project) is True
    assert len(read_results(data / "results" / f"{notebook}.csv")) == len(table)


def test_a_notebook_that_is_not_there(project):
    with pytest.raises(FileNotFoundError, match="for the notebook .*nothing.ipynb"):
        sweep(grid(project, GOOD, notebook="nothing"), root=project)
