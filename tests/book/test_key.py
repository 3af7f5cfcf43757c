"""What a profile passes to a chapter, and which changes make a chapter stale. No kernel is started."""

import shutil
from pathlib import Path

import pytest

from addlib import provenance
from builder import BookError
from builder.chapters import Chapter, parameters

ROOT = Path(__file__).resolve().parents[2]


def key(tiny, name="02-number", profile="smoke"):
    return Chapter(tiny, profile, tiny.book / f"{name}.ipynb").key


def given(tiny, text, name="02-number"):
    (tiny.book / "profiles" / "smoke.yaml").write_text(text)
    return parameters(tiny, "smoke", tiny.book / f"{name}.ipynb")[1]


def test_only_declared_parameters_are_passed_and_an_override_holds_for_its_chapter(tiny):
    assert given(tiny, "common: {profile: smoke, other: 1}\nchapters: {}") == {"profile": "smoke"}
    text = "common: {level: 2}\nchapters: {02-number: {level: 5}}"
    assert given(tiny, text) == {"level": 5}
    assert given(tiny, text, "01-pixel") == {"level": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chapters: {02-number: {epochs: 5}}", r"epochs of 02-number is 5, the chapter declares .no epochs.; it knows profile, level"),
        ("chapters: {02-numbre: {level: 5}}", "02-numbre"),
        ("chapters: {02-number: {level: 1e-3}}", r"level of 02-number is '1e-3'.*1\.0e-3"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(tiny, text, message):
    with pytest.raises(BookError, match=message):
        given(tiny, text)


def test_numbers_keep_the_kind_that_the_chapter_declares_as_literals(tiny):
    tiny.chapter("02-number", ("a", "code", "1"), parameters="rate = 0.1")
    assert given(tiny, "chapters: {02-number: {rate: 1.0e-3}}") == {"rate": 0.001}
    assert type(given(tiny, "chapters: {02-number: {rate: 1}}")["rate"]) is float
    tiny.chapter("02-number", ("a", "code", "1"), parameters="level = 1\nwidth = level + 1")
    with pytest.raises(BookError, match="02-number: line 2 of the parameters cell.*width = level"):
        given(tiny, "common: {}")


def test_code_lock_and_parameters_count_and_prose_does_not(tiny):
    before = key(tiny)
    tiny.edit("02-number", "title", "# Another title\n\nAnother prose.")
    assert key(tiny) == before
    keys = {before}
    tiny.edit("02-number", "compute", "print('something else')")
    keys.add(key(tiny))
    (tiny.root / "requirements.lock").write_text("numpy==2\n")
    keys.add(key(tiny))
    (tiny.book / "profiles" / "smoke.yaml").write_text("common: {profile: smoke}\nchapters: {02-number: {level: 3}}\n")
    keys.add(key(tiny))
    assert len(keys) == 4


@pytest.mark.parametrize("path", ["reader.py", "reader/__init__.py"])
@pytest.mark.parametrize("changed", ["own", "book/shelf.py", "addlib/deep.py", "data/results/rows.csv"])
def test_a_module_beside_the_chapters_counts_with_what_it_imports_and_reads(tiny, path, changed):
    own, rows = tiny.book / path, tiny.root / "data" / "results" / "rows.csv"
    for folder in (own.parent, rows.parent):
        folder.mkdir(parents=True, exist_ok=True)
    own.write_text("import shelf\nfrom addlib.results import read\n")
    (tiny.book / "shelf.py").write_text("from addlib.used import value\n")
    rows.write_text("a\n")
    tiny.chapter("03-table", ("a", "code", "from reader import rows"), parameters='profile = "smoke"')
    before = key(tiny, "03-table")
    (tiny.book / "unread.py").write_text("")
    assert key(tiny, "03-table") == before
    with (own if changed == "own" else tiny.root / changed).open("a") as file:
        file.write("changed = 1\n")
    assert key(tiny, "03-table") != before


@pytest.mark.parametrize(
    ("module", "chapters"),
    [
        ("detectors/resnet.py", ["03-detectors-and-the-teacher", "07-training-the-student"]),
        ("faceforensics/pairs.py", ["04-frequency-attention", "06-multi-view-attention", "09-ablation-and-sensitivity"]),
    ],
)
def test_a_changed_detector_or_data_set_makes_the_chapters_stale_that_use_it(tiny, monkeypatch, module, chapters):
    """However addlib loads these modules; a graph of imports that misses some let stale numbers be published."""
    copy = shutil.copytree(ROOT / "addlib", tiny.root / "whole" / "addlib", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    monkeypatch.setattr(Chapter, "_data", lambda *arguments: None)
    for name in chapters:
        shutil.copy(ROOT / "book" / f"{name}.ipynb", tiny.book)
    before = {name: key(tiny, name) for name in chapters}
    with (copy / module).open("a") as file:
        file.write("changed = 1\n")
    assert [name for name in chapters if key(tiny, name) == before[name]] == []


def test_what_only_acts_when_opened_by_hand_does_not_count(tiny):
    keys = []
    for tags in (["by-hand"], []):
        cells = [("compute", "code", "print(1)"), ("hand", "code", "from addlib import unused", {"tags": tags})]
        tiny.chapter("02-number", *cells[:1])
        keys.append(key(tiny))
        tiny.chapter("02-number", *cells)
        keys.append(key(tiny))
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_commands_of_the_notebook_are_no_mistake(tiny):
    tiny.edit("02-number", "compute", "%matplotlib inline\n!ls\nfrom addlib.used import value")
    before = key(tiny)
    (tiny.root / "addlib" / "deep.py").write_text("value = 3\n")
    assert key(tiny) != before
    tiny.edit("02-number", "compute", "1 +")
    with pytest.raises(BookError, match="02-number holds code that is not valid Python"):
        key(tiny)


@pytest.mark.parametrize("where", ["parameters", "code", "reader"])
def test_files_count_that_parameters_or_code_name_or_that_a_module_reads(tiny, where):
    folder = tiny.root / "data" / "results"
    folder.mkdir(parents=True)
    text = '"../data/results/rows.csv"'
    code = {"code": f"open({text})", "parameters": "1", "reader": "from addlib.results import read"}[where]
    more = f"\ntable = {text}" if where == "parameters" else ""
    tiny.chapter("03-table", ("a", "code", code), parameters=f'profile = "smoke"{more}')
    keys = {key(tiny, "03-table")}
    for rows in ("a\n1\n", "a\n2\n"):
        (folder / "rows.csv").write_text(rows)
        keys.add(key(tiny, "03-table"))
    assert len(keys) == 3


def test_data_count(tiny, monkeypatch):
    from addlib import faceforensics

    tiny.chapter("03-data", ("a", "code", "1"), parameters='profile = "smoke"\ncrops = "../data/crops"')
    with pytest.raises(BookError, match=r"03-data reads \.\./data/crops .*make data"):
        key(tiny, "03-data")
    (tiny.root / "data" / "crops").mkdir(parents=True)
    keys = set()
    for content in ("a", "b"):
        monkeypatch.setattr(faceforensics, "data_hash", lambda out, content=content: content)
        (tiny.root / "data" / "crops" / "manifest.csv").write_text(content * len(keys))
        keys.add(key(tiny, "03-data"))
    assert len(keys) == 2


def test_states(executed):
    source = executed.book / "02-number.ipynb"
    assert Chapter(executed, "smoke", source).state == "fresh"
    executed.edit("02-number", "compute", "print(1)")
    assert Chapter(executed, "smoke", source).state == "stale"
    executed.executed("02-number").unlink()
    assert Chapter(executed, "smoke", source).state == "missing"
    executed.executed("02-number").with_suffix(".failed.ipynb").touch()
    assert Chapter(executed, "smoke", source).state == "failed"
