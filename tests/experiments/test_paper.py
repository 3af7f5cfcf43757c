import pytest

from addlib.detectors import NAMES
from addlib.experiments import SETTINGS, read_paper
from addlib.miniforensics import MANIPULATIONS


def test_all_cells_of_the_paper_are_there():
    one, two, three = (read_paper(number) for number in (1, 2, 3))
    assert (len(one), len(two), len(three)) == (5 * 2 * 8, 5, 5 * 2 * 6)
    for table in (one, two, three):
        assert set(table["manipulation"]) <= set(MANIPULATIONS)
        assert set(table["detector"]) <= set(NAMES) and set(table["distiller"]) <= set(SETTINGS)
        place = ["manipulation", "quality", "detector", "distiller"] + ["eta"] * ("eta" in table)
        assert not table.duplicated(place).any()
        assert table["accuracy"].between(50, 100).all()


def test_values_as_printed():
    one = read_paper(1).set_index(["manipulation", "quality", "detector", "distiller"])
    assert one.loc[("NeuralTextures", "c40", "resnet50", "add"), ["accuracy", "recall_at_1"]].tolist() == [68.53, 58.42]
    assert one.loc[("Deepfakes", "c23", "resnet50", "at"), "recall_at_1"] == 98.72
    assert one.loc[("NeuralTextures", "c40", "f3net", "none"), "recall_at_1"] == 32.35
    two = read_paper(2).set_index(["distiller", "eta"])["accuracy"]
    assert (two["mv", 0], two["mv", 50], two["add", 50]) == (67.01, 68.14, 68.53)


def test_no_other_table():
    with pytest.raises(ValueError, match="no table 4"):
        read_paper(4)
