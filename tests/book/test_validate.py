"""Expected text: written by refresh, compared by validate."""

import pytest

import builder
from builder import BookError
from builder.chapters import Chapter


def test_refresh_keeps_text_drops_pictures_and_refuses_stale_copies(executed):
    assert builder.refresh(root=executed.root)
    pixel = executed.expected_text("01-pixel")
    assert pixel["data"] is None
    assert pixel["cells"] == {"draw": [{"text/plain": ["<a pixel>"]}, {"stdout": ["one pixel\n"]}]}
    assert executed.expected_text("02-number")["cells"] == {"compute": [{"stdout": ["value 2\n"]}]}
    executed.edit("02-number", "compute", "print(1)")
    with pytest.raises(BookError, match=r"02-number \(stale\).*make execute"):
        builder.refresh(root=executed.root)


def test_validate_passes_on_the_same_text_and_names_a_cell_that_prints_another(executed, capfd):
    builder.refresh(root=executed.root)
    assert builder.validate(root=executed.root)
    executed.edit("02-number", "compute", "print('value 3')")
    assert not builder.validate(names=["02-number"], root=executed.root)
    out = capfd.readouterr().out
    assert "Cell 2: Cell outputs differ" in out and "FAIL   02-number" in out and "value 3" in out


def test_other_data_are_run_but_not_compared(executed, capfd, monkeypatch):
    builder.refresh(root=executed.root)
    executed.edit("02-number", "compute", "print('value 3')")
    monkeypatch.setattr(Chapter, "_data", lambda *arguments: "another hash")
    assert builder.validate(names=["02-number"], root=executed.root)
    assert "02-number: the data here (another hash) are not those" in capfd.readouterr().out
    executed.edit("02-number", "compute", "1 / 0")
    assert not builder.validate(names=["02-number"], root=executed.root)


def test_a_chapter_without_expected_text_is_an_error_with_a_remedy(executed):
    with pytest.raises(BookError, match="01-pixel has no expected outputs .*make execute refresh"):
        builder.validate(root=executed.root)
