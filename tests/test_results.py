"""One training by its settings, its row, its predictions, and comparisons by seed."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from addlib.metrics import auc
from addlib.results import (
    Run,
    format_interval,
    mean_over_manipulations,
    over_seeds,
    paired_by_seed,
    read_paper,
    read_predictions,
    read_results,
    record,
    record_measurements,
    results_file,
    scores_of,
    setting,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[1]
ADD = Run("FaceSwap", "c40", "resnet18_narrow", "add", "mini", settings={"alpha": 0.1})


def test_a_run_is_its_settings_however_they_are_given():
    same = Run(
        "FaceSwap", "c40", distiller="add", settings={"views": 3, "alpha": 1e-1}, changes='{"betas": [0.9, 0.99]}'
    )
    other = Run(
        "FaceSwap", "c40", distiller="add", settings='{"alpha": 0.1, "views": 3.0}', changes={"betas": (0.9, 0.99)}
    )
    assert same == other and hash(same) == hash(other) and same.key("ff") == other.key("ff")
    assert same.settings["views"] == 3 and isinstance(other.settings["views"], int)
    assert Run.of(same.columns) == same and Run(**same.parameters) == same
    assert json.loads(json.dumps(same.parameters)) == same.parameters, "what a notebook can be given"
    assert str(ADD) == "FaceSwap c40 resnet18_narrow add alpha=0.1 seed 0"
    with pytest.raises(ValueError, match="without a distiller"):
        Run("FaceSwap", "c40", settings={"alpha": 1})


def test_everything_that_counts_is_in_the_key():
    keys = {ADD.key("ff"), ADD.key("00")}
    for name, value in {
        "manipulation": "Deepfakes", "quality": "c23", "detector": "resnet50", "distiller": "fr", "recipe": "paper",
        "changes": {"epochs": 1}, "seed": 1, "start": "teacher", "settings": {"alpha": 0.2},
    }.items():  # fmt: skip
        keys.add(Run(**ADD.parameters | {name: value}).key("ff"))
    assert len(keys) == 11 and all(len(key) == 12 for key in keys)


def test_the_teacher_of_a_run():
    teacher = Run("FaceSwap", "raw", "resnet18_narrow", "none", "mini")
    assert ADD.teacher == teacher and teacher.teacher is None
    assert Run("FaceSwap", "c40", "resnet18_narrow", "none", "mini", start="teacher").teacher == teacher
    images = Run(**ADD.parameters | {"start": "imagenet"})
    assert images.teacher.start == "imagenet"


def row(run, value=0.5, data="ff", **more):
    return {
        **run.parameters,
        "accuracy": value,
        "auc": value,
        "seconds": 1.5,
        "data": data,
        "versions": {"torch": "2"},
    } | more


def test_one_row_a_training_whoever_writes_and_in_whatever_order(tmp_path):
    runs = [Run("FaceSwap", "c40", seed=seed) for seed in range(6)] + [ADD]
    paths = tmp_path / "new" / "one.csv", tmp_path / "other.csv"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda run: record(row(run, 1 / 3), "smoke", path=paths[0]), runs))
    for run in reversed(runs):
        record(row(run, 0.9), "smoke", path=paths[1])
        written = record(row(run, 1 / 3), "smoke", path=paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    table = read_results(paths[0])
    assert (
        len(table) == 7 and (table["accuracy"] == 1 / 3).all() and set(table["key"]) == {run.key("ff") for run in runs}
    )
    assert written["versions"] == '{"torch": "2"}' and [Run.of(each) for each in table.to_dict("records")] == [
        ADD,
        *runs[:6],
    ]
    record(row(ADD, large_auc=0.7, made_with="012345678901"), "smoke", path=paths[0])
    table = read_results(paths[0])
    assert table["large_auc"].count() == 1 and table["made_with"].dropna().tolist() == ["012345678901"]
    assert read_results(tmp_path / "none.csv").empty and "key" in read_results(tmp_path / "none.csv")


def test_measurements_replace_those_of_the_same_training(tmp_path):
    path = tmp_path / "look.csv"
    lines = [{"condition": name, "value": 0.1, "data": "ff"} for name in ("dark", "bright")]
    record_measurements(ADD, "smoke", lines, path)
    record_measurements(ADD.teacher, "smoke", lines[:1], path)
    record_measurements(ADD, "smoke", [line | {"value": 0.2} for line in lines], path)
    table = read_results(path)
    assert table["condition"].tolist() == ["dark", "bright", "dark"] and table["value"].tolist() == [0.2, 0.2, 0.1]
    for wrong in ([], [{"value": 1}], [lines[0], {"data": "ff"}]):
        with pytest.raises(ValueError, match="expected one or more with the same columns, 'data' among them"):
            record_measurements(ADD, "smoke", wrong, path)


def test_predictions_are_kept_in_two_bytes_a_crop_and_names_once(tmp_path):
    random, names = np.random.default_rng(0), [f"FaceSwap/{i // 8:03d}" for i in range(800)]
    table = pd.DataFrame(
        {"split": "test", "video": names, "frame": np.arange(800) % 8, "label": np.arange(800) // 8 % 2}
    )
    odds = random.normal(4 * table["label"], 5)
    path = tmp_path / "runs.csv"
    record(row(ADD), "smoke", predictions=table.assign(log_odds=odds), path=path)
    probability = (1 / (1 + np.exp(-odds))).round(6)
    record(row(ADD.teacher), "smoke", predictions=table.assign(probability=probability), path=path)
    files = sorted((tmp_path / "predictions").iterdir())
    assert len(files) == 3 and sum(file.name.startswith("index-") for file in files) == 1
    assert (tmp_path / "predictions" / f"{ADD.key('ff')}.npz").stat().st_size < 2 * 800 + 500
    for run in (ADD, ADD.teacher):
        found = read_predictions(run.key("ff"), tmp_path)
        pd.testing.assert_frame_equal(found[list(table)], table)
        assert auc(found["log_odds"], found["label"]) == pytest.approx(auc(odds, table["label"]), abs=2e-4)
        np.testing.assert_allclose(found["probability"], probability, atol=2e-3)
    before = files[0].read_bytes()
    record(row(ADD), "smoke", predictions=table.assign(log_odds=odds), path=path)
    assert files[0].read_bytes() == before, "the same answers give the same file"


def some(**columns):
    """Rows of three seeds; a column may be a list."""
    run = {"manipulation": "FaceSwap", "quality": "c40", "distiller": "add", "settings": {}} | columns
    values = run.pop("values", (0.5, 0.6, 0.7))
    lines = [Run(**run, seed=seed).columns | {"accuracy": value, "profile": "p"} for seed, value in enumerate(values)]
    return pd.DataFrame(lines)


def test_scores_of_one_setting():
    base, other = some(distiller="none"), some(settings={"alpha": 0.1}, values=(0.9,))
    rows = pd.concat([base, other, some(), some(start="teacher"), some(changes={"epochs": 1})])
    found = scores_of(rows, distiller="add", profile="p")
    assert found.tolist() == pytest.approx([50, 60, 70]) and found.index.names == ["manipulation", "quality", "seed"]
    assert scores_of(rows, distiller="add", settings={"alpha": 0.1}).tolist() == [90]
    assert len(scores_of(rows, distiller="add", start="teacher")) == len(
        scores_of(rows, distiller="add", changes={"epochs": 1})
    )
    assert scores_of(rows, distiller="nl").empty
    assert setting(rows, "alpha", 1.0).tolist() == [1, 1, 1, 0.1] + [1] * 9
    with pytest.raises(
        ValueError, match=r"several trainings at FaceSwap c40 0; they differ in some of \['distiller'\]"
    ):
        scores_of(rows, distiller=["add", "none"])
    for wrong in ({"metric": "f1"}, {"beta": 4}):
        with pytest.raises(ValueError, match="unknown metric 'f1'|rows have no \\['beta'\\]"):
            scores_of(rows, **wrong)


def test_comparisons_are_paired_by_seed():
    rows = pd.concat(
        [some(), some(distiller="none", values=(0.4, 0.4)), some(manipulation="Deepfakes", values=(0.1, 0.3))]
    )
    add, base = scores_of(rows, distiller="add"), scores_of(rows, distiller="none")
    gain = paired_by_seed(add, base)
    assert gain.tolist() == pytest.approx([10, 20]), "of seeds that have both"
    assert format_interval(over_seeds(gain)["FaceSwap", "c40"], "+") == "+15.0 ± 63.5"
    assert mean_over_manipulations(add).tolist() == pytest.approx([30, 45]), "of seeds that have every manipulation"
    with pytest.raises(ValueError, match="c40 has a seed twice"):
        over_seeds(add, "quality")
    assert format_interval(None) == "-" and format_interval(over_seeds(gain[:1])["FaceSwap", "c40"]) == "10.0"


def test_the_papers_tables():
    """Some numbers by hand, and the counts of cells."""
    first, second, third = (read_paper(number, ROOT) for number in (1, 2, 3))
    assert [len(table) for table in (first, second, third)] == [80, 5, 60]
    cell = first.query("manipulation == 'Deepfakes' and quality == 'c23' and distiller == 'at'").iloc[0]
    assert (cell["detector"], cell["accuracy"], cell["recall_at_1"]) == ("resnet50", 97.37, 98.72)
    assert second.set_index("distiller").loc["mv", "accuracy"].tolist() == [67.01, 68.14]
    assert second["settings"].tolist() == ["{}", "{}", '{"eta": 0}', "{}", "{}"]
    gain = third.pivot(index=["detector", "manipulation", "quality"], columns="distiller", values="accuracy")
    assert (gain["add"] - gain["none"]).groupby("detector").max().round(1).to_dict() == {
        "resnet18": 7.0, "resnet34": 5.8, "efficientnet_b0": 7.1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="no table 4"):
        read_paper(4, ROOT)


@pytest.mark.parametrize("name", ["runs", "look", "outside"])
def test_the_rows_of_this_project_have_one_key_and_one_form(name, tmp_path):
    path = results_file(ROOT, name)
    table = read_results(path)
    for each in table.drop_duplicates("key").to_dict("records"):
        assert Run.of(each).key(each["data"]) == each["key"]
    assert name != "runs" or table["key"].is_unique
    assert table.to_csv(index=False, lineterminator="\n") == path.read_text(), "read and written, the same digits"
