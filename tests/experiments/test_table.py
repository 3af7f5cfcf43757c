from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import pytest

from addlib.experiments import Cell, read_results, record, record_measurements
from addlib.experiments.table import MEASURED


def row(accuracy):
    return dict.fromkeys(MEASURED, 0) | {
        "accuracy": accuracy,
        "data": "00ff",
        "commit": "12e4",
        "versions": {"torch": "2.11.0"},
    }


def write(job):
    path, seed = job
    return record(Cell("FaceSwap", "c40", seed=seed), "reader", row(seed / 100), path)


def test_rows_are_written_once_and_in_order(tmp_path):
    path = tmp_path / "results" / "runs.csv"
    assert read_results(path).empty
    for seed in (3, 1, 2, 1):
        write((path, seed))
    table = read_results(path)
    assert table["seed"].tolist() == [1, 2, 3] and table["key"].is_unique
    before = path.read_bytes()
    record(Cell("FaceSwap", "c40", seed=1), "reader", row(0.9), path)
    assert read_results(path)["accuracy"].tolist() == [0.9, 0.02, 0.03]
    record(Cell("FaceSwap", "c40", seed=1), "reader", row(0.01), path)
    assert path.read_bytes() == before, "the file depends on its rows alone"


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    path = tmp_path / "runs.csv"
    write((path, 0))
    (found,) = read_results(path).to_dict("records")
    assert (found["data"], found["commit"], found["changes"]) == ("00ff", "12e4", "{}")
    assert isinstance(found["key"], str) and pd.isna(found["alpha"])


def test_many_writers(tmp_path):
    path = tmp_path / "runs.csv"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(write, [(path, seed % 12) for seed in range(36)]))
    table = read_results(path)
    assert table["seed"].tolist() == list(range(12))
    assert not list(tmp_path.glob("*.part"))


def test_a_row_that_lacks_something(tmp_path):
    with pytest.raises(ValueError, match="lacks.*recall_at_1"):
        record(Cell("FaceSwap", "c40"), "reader", {"accuracy": 1.0}, tmp_path / "runs.csv")


def test_settings_differ_by_distiller(tmp_path):
    path = tmp_path / "runs.csv"
    for distiller in ("none", "fr", "add"):
        record(Cell("FaceSwap", "c40", distiller=distiller), "reader", row(0.5), path)
    table = read_results(path).set_index("distiller")
    assert pd.isna(table.loc["none", "alpha"]) and table.loc["fr", "alpha"] == 1 and table.loc["add", "views"] == 12


def test_measurements_of_a_cell_replace_each_other(tmp_path):
    path = tmp_path / "outside.csv"
    one, two = (Cell("FaceSwap", "c40", seed=seed) for seed in (0, 1))
    for cell in (two, one):
        rows = [{"data": "00ff", "codec": name, "accuracy": 0.5} for name in ("h265", "jpeg", "vp9")]
        record_measurements(cell, "reader", rows, path)
    record_measurements(one, "reader", [{"data": "00ff", "codec": "vp9", "accuracy": 0.75}], path)
    table = read_results(path)
    assert table["seed"].tolist() == [0, 1, 1, 1] and table["codec"].tolist() == ["vp9", "h265", "jpeg", "vp9"]
    assert set(table["key"]) == {one.key("00ff"), two.key("00ff")}


@pytest.mark.parametrize("rows", [[], [{"accuracy": 1.0}], [{"data": "f", "a": 1}, {"data": "f", "b": 1}]])
def test_measurements_that_do_not_make_a_table(tmp_path, rows):
    with pytest.raises(ValueError, match=f"{len(rows)} rows with columns"):
        record_measurements(Cell("FaceSwap", "c40"), "reader", rows, tmp_path / "outside.csv")


SPECIAL = [
    {"distiller": "add", "bins": 4, "views": 3, "coordinates": "unit", "detach_weight": False, "eta": 0.0},
    {"distiller": "mv", "bins": 64, "variant": "published"},
    {"distiller": "kd", "temperature": 2, "weight": 0.5},
    {"distiller": "fitnet", "variant": "paper"},
    {"distiller": "none", "changes": {"epochs": 1, "betas": [0.8, 0.99]}},
]


def test_a_row_keeps_its_key_and_its_cell(tmp_path):
    path = tmp_path / "runs.csv"
    cells = [Cell("FaceSwap", "c40", **settings) for settings in [*SPECIAL, {}]]
    for cell in cells:
        record(cell, "reader", row(0.5), path)
    for _ in range(2):
        table = read_results(path)
        assert set(table["key"]) == {cell.key("00ff") for cell in cells}
        record(cells[0], "reader", row(0.5), path)
    assert len(read_results(path)) == len(cells)
