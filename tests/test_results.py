"""One training by its settings, its row, its predictions, and comparisons by seed."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from addlib import results
from addlib.metrics import auc
from addlib.results import Run, on_the_same_crops, read_results, record, record_measurements, scores_of

ROOT = Path(__file__).resolve().parents[1]
ADD = Run("FaceSwap", "c40", "resnet18_narrow", "add", "mini", settings={"alpha": 0.1})


def test_a_run_is_its_settings_however_they_are_given_and_knows_its_teacher():
    changes, given = '{"betas": [0.9, 0.99]}', {"views": 3, "alpha": 1e-1}
    same = Run("FaceSwap", "c40", distiller="add", settings=given, changes=changes)
    text, betas = '{"alpha": 0.1, "views": 3.0}', {"betas": (0.9, 0.99)}
    other = Run("FaceSwap", "c40", distiller="add", settings=text, changes=betas)
    assert same == other and hash(same) == hash(other) and same.key("ff") == other.key("ff")
    assert other.settings["views"] == 3 and isinstance(other.settings["views"], int)
    assert Run.of(same.columns) == same and Run(**same.parameters) == same
    assert json.loads(json.dumps(same.parameters)) == same.parameters, "what a notebook can be given"
    assert str(ADD) == "FaceSwap c40 resnet18_narrow add alpha=0.1 seed 0"
    teacher = Run("FaceSwap", "raw", "resnet18_narrow", "none", "mini")
    assert ADD.teacher == teacher and teacher.teacher is None
    assert Run("FaceSwap", "c40", "resnet18_narrow", "none", "mini", start="teacher").teacher == teacher
    assert Run(**ADD.parameters | {"start": "imagenet"}).teacher.start == "imagenet"
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


def row(run, value=0.5, **more):
    measured = {"accuracy": value, "auc": value, "seconds": 1.5, "data": "ff", "versions": {"torch": "2"}}
    return {"key": run.key("ff"), **run.parameters} | measured | more


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
    assert (table["accuracy"] == 1 / 3).all() and sorted(table["key"]) == sorted(run.key("ff") for run in runs)
    assert [Run.of(each) for each in table.to_dict("records")] == [ADD, *runs[:6]]
    assert written["versions"] == '{"torch": "2"}' and read_results(tmp_path / "none.csv").empty
    record(row(ADD, made_with="012345678901"), "smoke", path=paths[0])
    assert read_results(paths[0])["made_with"].dropna().tolist() == ["012345678901"]


def test_measurements_replace_those_of_the_same_training(tmp_path):
    path = tmp_path / "look.csv"
    lines = [{"condition": name, "value": 0.1, "data": "ff"} for name in ("dark", "bright")]
    record_measurements(ADD, "smoke", lines, path)
    record_measurements(ADD.teacher, "smoke", lines[:1], path)
    record_measurements(ADD, "smoke", [line | {"value": 0.2} for line in lines], path)
    table = read_results(path)
    assert table["condition"].tolist() == ["dark", "bright", "dark"] and table["value"].tolist() == [0.2, 0.2, 0.1]
    (other,) = record_measurements(ADD, "smoke", [lines[0] | {"key": "0" * 12}], path)
    assert other["key"] == "0" * 12 and len(read_results(path)) == 4, "of another teacher than the run says"
    for wrong in ([], [{"value": 1}], [lines[0], {"data": "ff"}]):
        with pytest.raises(ValueError, match="expected one or more with the same columns, 'data' among them"):
            record_measurements(ADD, "smoke", wrong, path)


def test_predictions_are_kept_in_two_bytes_a_crop_and_names_once(tmp_path):
    crops, names = np.arange(800), [f"FaceSwap/{i // 8:03d}" for i in range(800)]
    table = pd.DataFrame({"split": "test", "video": names, "frame": crops % 8, "label": crops // 8 % 2})
    odds = np.random.default_rng(0).normal(4 * table["label"], 5)
    folder, path = tmp_path / "predictions", tmp_path / "runs.csv"
    for run in (ADD, ADD.teacher, ADD):
        record(row(run), "smoke", predictions=table.assign(log_odds=odds), path=path)
    assert len([file for file in folder.iterdir() if file.name.startswith("index-")]) == 1
    answers = [(folder / "runs" / f"{run.key('ff')}.npz").read_bytes() for run in (ADD, ADD.teacher)]
    assert answers[0] == answers[1] and len(answers[0]) < 2 * 800 + 500, "the same answers give the same file"
    # The same training in another table, with other answers.
    record(row(ADD), "smoke", predictions=table[:8].assign(log_odds=0.0), path=tmp_path / "apart.csv")
    found = results.read_predictions(ADD.key("ff"), path)
    pd.testing.assert_frame_equal(found[list(table)], table)
    assert auc(found["log_odds"], found["label"]) == pytest.approx(auc(odds, table["label"]), abs=2e-4)


def test_names_that_look_like_numbers_or_nothing_stay(tmp_path):
    run, path = Run("007", "None", "1", "mv", "nan", settings={"views": np.int64(4), "beta": np.float32(2)}), tmp_path / "runs.csv"
    table = pd.DataFrame({"split": "test", "video": ["None", "NA"], "frame": 0, "label": [0, 1], "log_odds": 0.0})
    record(row(run), "2", predictions=table, path=path)
    (found,) = results.read_results(path).to_dict("records")
    assert Run.of(found) == run and Run.of(found).key("ff") == run.key("ff") and found["profile"] == "2"
    assert results.read_predictions(run.key("ff"), path)["video"].tolist() == ["None", "NA"]


def some(values=(0.5, 0.6, 0.7), **columns):
    """Rows of one setting, a value a seed."""
    run = {"manipulation": "FaceSwap", "quality": "c40", "distiller": "add"} | columns
    return pd.DataFrame([Run(**run, seed=seed).columns | {"accuracy": value} for seed, value in enumerate(values)])


def test_of_a_run_on_several_crops_one_is_taken():
    """A sweep on another machine adds rows beside those that are stored; what only one machine has trained is kept."""
    here = pd.concat([some(), some(distiller="none")]).assign(profile="p", data="a")
    other = [some((value,), distiller=name).assign(profile="p", data="b") for name, value in (("add", 0.9), ("none", 0.8), ("kd", 0.7))]
    both = pd.concat([here, other[0]], ignore_index=True)
    with pytest.raises(ValueError, match=r"\['data'\]: name one; of the same run"):
        scores_of(both, distiller="add")
    assert scores_of(both, distiller="add", data="b").tolist() == [90]
    taken = on_the_same_crops(both)
    assert scores_of(taken, distiller="add").tolist() == pytest.approx([50, 60, 70]) and len(taken) == len(here)
    taken = on_the_same_crops(pd.concat([here, *other], ignore_index=True))  # of seed 0 the others are more
    assert scores_of(taken, distiller="add").tolist() == pytest.approx([90, 60, 70])
    alone = on_the_same_crops(pd.concat([here, here, other[2]], ignore_index=True))
    assert scores_of(alone, distiller="kd").tolist() == [70], "nothing else has this setting"
    elsewhere = pd.concat([here, other[0].assign(profile="q")], ignore_index=True)
    assert len(on_the_same_crops(elsewhere)) == len(elsewhere), "profiles are apart"


def test_scores_of_one_setting():
    base, other = some(distiller="none"), some((0.9,), settings={"alpha": 0.1})
    rows = pd.concat([base, other, some(), some(start="teacher"), some((0.2,), changes={"epochs": 1})])
    found = scores_of(rows, distiller="add", detector="resnet50")
    assert found.tolist() == pytest.approx([50, 60, 70]) and found.index.names == ["manipulation", "quality", "seed"]
    assert scores_of(rows, distiller="add", settings={"alpha": 0.1}).tolist() == [90]
    assert scores_of(rows, distiller="add", changes={"epochs": 1}).tolist() == [20]
    for seeds in (np.array([0, 1]), range(2), {0, 1}, pd.Series([0, 1])):
        assert scores_of(rows, distiller="add", seed=seeds).tolist() == pytest.approx([50, 60])
    assert len(scores_of(rows, distiller="add", start="teacher")) == 3 and scores_of(rows, distiller="nl").empty
    assert results.setting(rows, "alpha", 1.0).tolist() == [1, 1, 1, 0.1] + [1] * 7
    with pytest.raises(ValueError, match=r"several trainings at FaceSwap c40 0; they differ .* \['distiller'\]"):
        scores_of(rows, distiller=["add", "none"])
    for wrong in ({"metric": "f1"}, {"beta": 4}):
        with pytest.raises(ValueError, match="unknown \\['(f1|beta)'\\]"):
            scores_of(rows, **wrong)


def test_comparisons_are_paired_by_seed():
    rows = pd.concat([some(), some((0.4, 0.4), distiller="none"), some((0.1, 0.3), manipulation="Deepfakes")])
    add, base = scores_of(rows, distiller="add"), scores_of(rows, distiller="none")
    gain = results.paired_by_seed(add, base)
    assert gain.tolist() == pytest.approx([10, 20]), "of seeds that have both"
    shown = [results.format_interval(results.over_seeds(part)["FaceSwap", "c40"], "+") for part in (gain, gain[:1])]
    assert [*shown, results.format_interval(None)] == ["+15.0 ± 63.5", "+10.0", "-"]
    means = [results.mean_over_manipulations(each).tolist() for each in (add, add.where(add != 10))]
    assert means == [pytest.approx([30, 45]), pytest.approx([45])], "of seeds with every manipulation"
    with pytest.raises(ValueError, match="c40 has a seed twice"):
        results.over_seeds(add, "quality")


@pytest.mark.parametrize("name", ["runs", "ablation", "look", "outside"])
def test_the_rows_of_this_project_have_one_key_and_one_form(name):
    path = results.results_file(ROOT, name)
    table = read_results(path)
    for each in table.drop_duplicates("key").to_dict("records"):
        assert Run.of(each).key(each["data"]) == each["key"]
    assert name in ("look", "outside") or table["key"].is_unique
    assert table.to_csv(index=False, lineterminator="\n") == path.read_text(), "read and written, the same digits"
