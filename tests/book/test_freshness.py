"""Which changes make a chapter stale. No kernel is started."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from addlib.book import BookError
from addlib.book.freshness import Freshness, imports


def key(tiny, name="02-number", profile="smoke"):
    return Freshness(tiny, profile).key(tiny.book / f"{name}.ipynb")


def test_the_same_book_gives_the_same_key(tiny):
    assert key(tiny) == key(tiny)


def test_code_counts_and_prose_does_not(tiny):
    before = key(tiny)
    tiny.edit("02-number", "title", "# Another title\n\nAnother prose.")
    assert key(tiny) == before
    tiny.edit("02-number", "compute", "print('something else')")
    assert key(tiny) != before


@pytest.mark.parametrize(
    ("module", "counts"), [("used", True), ("deep", True), ("lazy", True), ("unused", False), ("__init__", True)]
)
def test_modules_count_if_the_chapter_can_reach_them(tiny, module, counts):
    """used is imported, deep by used, lazy by a function of deep; __init__ runs with all of them."""
    before = key(tiny)
    with (tiny.root / "addlib" / f"{module}.py").open("a") as file:
        file.write("changed = True\n")
    assert (key(tiny) != before) == counts


def test_a_chapter_that_imports_nothing_reaches_nothing(tiny):
    assert Freshness(tiny, "smoke").reach(tiny.book / "01-pixel.ipynb") == []


def test_what_only_acts_when_opened_by_hand_does_not_count(tiny):
    before = key(tiny)
    notebook = nbformat.read(tiny.book / "02-number.ipynb", as_version=4)
    cell = new_code_cell("from addlib import unused", id="by-hand", metadata={"tags": ["by-hand"]})
    notebook.cells.append(cell)
    nbformat.write(notebook, tiny.book / "02-number.ipynb")
    assert key(tiny) == before
    cell.metadata["tags"] = []
    nbformat.write(notebook, tiny.book / "02-number.ipynb")
    assert key(tiny) != before


def test_lock_and_parameters_count(tiny):
    before = key(tiny)
    (tiny.root / "requirements.lock").write_text("numpy==2\n")
    after = key(tiny)
    assert after != before
    profile = tiny.book / "profiles" / "smoke.yaml"
    profile.write_text("common: {profile: smoke}\nchapters: {02-number: {level: 3}}\n")
    assert key(tiny) != after


def test_data_count(tiny, monkeypatch):
    faceforensics = pytest.importorskip("addlib.faceforensics")
    path = tiny.chapter("03-data", ("a", "code", "1"), parameters='profile = "smoke"\ncrops = "../data/crops"')
    with pytest.raises(BookError, match="03-data reads ../data/crops .*make data"):
        key(tiny, path.stem)
    (tiny.root / "data" / "crops").mkdir(parents=True)
    (tiny.root / "data" / "crops" / "manifest.csv").touch()
    monkeypatch.setattr(faceforensics, "data_hash", lambda out: "a" * 12)
    before = key(tiny, path.stem)
    monkeypatch.setattr(faceforensics, "data_hash", lambda out: "b" * 12)
    assert key(tiny, path.stem) != before


def test_imports_of_a_cell():
    code = "%matplotlib inline\n!ls\nimport addlib.video as v\nfrom addlib.losses import add\nif x:\n    import numpy"
    assert imports(code) >= {"addlib.video", "addlib.losses", "addlib.losses.add", "numpy"}


def test_states(executed):
    source = executed.book / "02-number.ipynb"
    freshness = Freshness(executed, "smoke")
    assert freshness.state(source) == "fresh"
    executed.edit("02-number", "compute", "print(1)")
    assert freshness.state(source) == "stale"
    (executed.executed("smoke") / "02-number.ipynb").unlink()
    assert freshness.state(source) == "missing"
    (executed.executed("smoke") / "02-number.failed.ipynb").touch()
    assert freshness.state(source) == "failed"


def test_a_file_named_by_a_parameter_counts(tiny):
    path = tiny.chapter("03-table", ("a", "code", "1"), parameters='profile = "smoke"\ntable = "../data/rows.csv"')
    (tiny.root / "data").mkdir(exist_ok=True)
    keys = {key(tiny, path.stem)}
    for rows in ("a\n1\n", "a\n2\n"):
        (tiny.root / "data" / "rows.csv").write_text(rows)
        keys.add(key(tiny, path.stem))
    assert len(keys) == 3
