"""The rehearsal that `make rehearsal` runs in full: here a few chapters, and one training of every grid of profile paper."""

import re

import pandas as pd
import pytest

from addlib.results import read_predictions
from builder import rehearsal
from builder.project import Project, read

# They tabulate rows of several grids and detectors, and of trainings that are not there yet.
CHAPTERS = ["10-other-backbones", "13-what-reproduces"]


@pytest.mark.slow
def test_from_videos_to_pages_on_a_cpu(tmp_path, capfd):
    project, folder = Project(), tmp_path / "a project [1]"
    done = rehearsal.rehearse(CHAPTERS, folder=folder)
    said = capfd.readouterr().out
    assert done, said
    manifest = pd.read_csv(folder / rehearsal.CROPS / "manifest.csv", dtype=str, keep_default_na=False)
    assert len(manifest) == 6 * 3 * 2 * sum(map(len, rehearsal.SPLITS.values())) and "failed" not in set(manifest["status"])
    by_time = manifest["note"].str.extract(r"(\d+) of (\d+) frames aligned by presentation time").dropna()
    assert by_time[1].astype(int).max() > 300 and (by_time[0].astype(int) < by_time[1].astype(int)).all()
    grids = rehearsal.grids(project)
    assert len(re.findall("^paper-.*: 1 runs, 1 to run", said, re.M)) == len(grids) > 5
    assert len(re.findall("^ok    NeuralTextures", said, re.M)) == len(grids)
    rows = pd.read_csv(folder / "data" / "results" / "runs.csv")
    paper = rows[rows["profile"] == "paper"]
    assert {"resnet18", "resnet34", "resnet50", "efficientnet_b0", "xception", "f3net"} <= set(paper["detector"])
    assert paper.groupby(["manipulation", "quality"])["seed"].nunique().eq(3).all()
    answers = [read_predictions(key, folder / "data" / "results" / "runs.csv") for key in paper["key"]]
    assert all(set(each["split"]) == {"val", "test"} for each in answers), "also of rows that were drawn"
    for name in CHAPTERS:
        made = read(folder / "book" / "_build" / "executed" / "paper" / f"{name}.ipynb")
        assert made["metadata"]["addlib"]["profile"] == "paper"
