import numpy as np
import pandas as pd
import pytest
from scipy import stats

from addlib.experiments import Cell, less, over_seeds, read_results, record, scores_of, together, written
from addlib.experiments.table import MEASURED


@pytest.fixture
def rows(tmp_path):
    """Two manipulations, three seeds, baseline and two kinds of ADD; the baseline of one seed is missing."""
    path = tmp_path / "runs.csv"

    def add(accuracy, *place, **settings):
        row = dict.fromkeys(MEASURED, 0) | {"accuracy": accuracy, "data": "ff"}
        record(Cell(*place, recipe="mini", **settings), "reader", row, path)

    for number, kind in enumerate(("FaceSwap", "Deepfakes")):
        for seed in range(3):
            add(0.5 + 0.1 * number + 0.01 * seed, kind, "c40", distiller="add", seed=seed)
            add(0.9, kind, "c40", distiller="add", alpha=0.1, seed=seed)
            if (kind, seed) != ("Deepfakes", 2):
                add(0.4 + 0.03 * seed, kind, "c40", seed=seed)
    return read_results(path)


def test_settings_not_named_have_their_default(rows):
    found = scores_of(rows, distiller="add")
    assert found["FaceSwap", "c40"].round(6).tolist() == [50, 51, 52]
    assert scores_of(rows, distiller="add", alpha=0.1).round(6).tolist() == [90] * 6
    assert scores_of(rows, distiller="add", alpha=0.3).empty
    assert len(scores_of(rows, distiller="none", manipulation=["Deepfakes"])) == 2


def test_two_trainings_at_one_place(rows):
    with pytest.raises(ValueError, match=r"several trainings at Deepfakes c40 0; they differ in.*distiller.*alpha"):
        scores_of(rows)
    with pytest.raises(ValueError, match="unknown metric 'seconds'"):
        scores_of(rows, "seconds")
    with pytest.raises(ValueError, match=r"rows have no \['speed'\]"):
        scores_of(rows, speed=1)


def test_paired_differences_and_their_interval(rows):
    found = less(scores_of(rows, distiller="add"), scores_of(rows, distiller="none"))
    assert found["FaceSwap", "c40"].round(6).tolist() == [10, 8, 6]
    assert len(found["Deepfakes", "c40"]) == 2, "a seed without a baseline has no difference"
    interval = over_seeds(found)["FaceSwap", "c40"]
    low, high = stats.t.interval(0.95, 2, loc=8, scale=stats.sem([10, 8, 6]))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    assert written(interval, "+") == f"+8.0 ± {high - 8:.1f}"
    assert written(None) == "-"
    (one,) = over_seeds(found.iloc[:1]).values()
    assert written(one) == f"{found.iloc[0]:.1f}"


def test_mean_over_manipulations_needs_all_of_them(rows):
    found = together(scores_of(rows, distiller="none"))
    assert found.index.tolist() == [("c40", 0), ("c40", 1)]
    assert found.to_numpy() == pytest.approx([40, 43])
    whole = over_seeds(found, "quality")
    assert whole["c40"].seeds == 2


def test_a_seed_twice_in_a_group(rows):
    with pytest.raises(ValueError, match="c40 has a seed twice"):
        over_seeds(scores_of(rows, distiller="none"), "quality")


def test_rows_from_before_a_setting_existed(rows, tmp_path):
    path = tmp_path / "old.csv"
    rows.drop(columns="detach_weight").assign(key="old").to_csv(path, index=False)
    found = read_results(path)
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)
    assert np.all(found.loc[found["distiller"] == "add", "detach_weight"])
