import pytest
import yaml

from addlib.experiments import Cell, read_grid


def test_defaults_are_filled_in_and_make_no_difference():
    cell = Cell("FaceSwap", "c40", distiller="add", alpha=None, beta=16)
    assert cell == Cell("FaceSwap", "c40", distiller="add", alpha=1.0)
    assert cell.settings["coordinates"] == "index" and "weight" not in cell.settings and "bins" not in cell.settings
    assert cell.key("data") == Cell("FaceSwap", "c40", distiller="add").key("data")


def test_everything_else_makes_a_difference():
    cells = [
        Cell("FaceSwap", "c40"), Cell("FaceSwap", "c23"), Cell("Deepfakes", "c40"), Cell("FaceSwap", "c40", seed=1),
        Cell("FaceSwap", "c40", "resnet18"), Cell("FaceSwap", "c40", distiller="fr"),
        Cell("FaceSwap", "c40", distiller="fr", alpha=0.1), Cell("FaceSwap", "c40", recipe="mini"),
        Cell("FaceSwap", "c40", changes={"epochs": 1}),
    ]  # fmt: skip
    assert len({cell.key(data) for cell in cells for data in ("one", "two")}) == 2 * len(cells)


def test_changes_in_any_order():
    one, two = (Cell("FaceSwap", "c40", changes=c) for c in ({"epochs": 1, "flip": 0}, {"flip": 0, "epochs": 1}))
    assert one == two and one.parameters["changes"] == {"epochs": 1, "flip": 0}
    assert Cell(**one.parameters) == one


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"distiller": "none", "alpha": 1.0}, "'none' has no alpha"),
        ({"distiller": "fr", "beta": 1.0}, r"'fr' has no beta; it has \['alpha', 'detach_weight', 'gamma_fr'\]"),
        ({"distiller": "telepathy"}, "unknown distiller 'telepathy'"),
    ],
)
def test_settings_that_a_distiller_lacks(settings, said):
    with pytest.raises(ValueError, match=said):
        Cell("FaceSwap", "c40", **settings)


def test_names():
    assert str(Cell("FaceSwap", "c40", distiller="mv", coordinates="unit", seed=3)) == (
        "FaceSwap c40 resnet50 mv coordinates=unit seed 3"
    )


def write(path, **content):
    whole = {"profile": "reader", "crops": "../data/crops", "common": {"detector": "resnet18"}, "cells": []}
    path.write_text(yaml.safe_dump(whole | content))
    return path


def test_grid(tmp_path):
    cells = [
        {"manipulation": ["FaceSwap", "Deepfakes"], "quality": "c40", "distiller": ["none", "add"], "seed": [0, 1]},
        {"manipulation": "FaceSwap", "quality": ["c40", "raw"], "distiller": "none", "seed": [0, 1]},
    ]
    about, found = read_grid(write(tmp_path / "grid.yaml", cells=cells))
    assert about == {"profile": "reader", "crops": "../data/crops", "notebook": "train"}
    assert len(found) == len(set(found)) == 10, "two cells are in both entries"
    assert [cell.quality for cell in found] == ["raw", *["c40"] * 4] * 2, "teachers first"
    assert {cell.detector for cell in found} == {"resnet18"}
    assert [cell.seed for cell in found] == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"cells": [{"manipulation": "FaceSwap"}]}, "entry 1 of cells.*quality"),
        ({"cells": [{"manipulation": "FaceSwap", "quality": "c40", "speed": 1}]}, "entry 1 of cells.*speed"),
        ({"speed": 1}, r"holds \['cells', 'common', 'crops', 'profile', 'speed'\]"),
    ],
)
def test_grids_that_do_not_fit(tmp_path, content, said):
    with pytest.raises(ValueError, match=said):
        read_grid(write(tmp_path / "grid.yaml", **content))


def test_the_grids_of_the_book():
    from pathlib import Path

    folder = Path(__file__).resolve().parents[2] / "book" / "experiments" / "grids"
    grids = sorted(folder.glob("*.yaml"))
    assert grids
    for path in grids:
        _, cells = read_grid(path)
        seeds = {cell.seed for cell in cells}
        assert cells and (min(seeds) >= 100) == (path.stem == "tuning"), "the search has seeds of its own"
