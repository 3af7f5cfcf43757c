"""Executing chapters: records, failures, and what is not run again."""

from __future__ import annotations

import re

import nbformat
import pytest

from addlib import book
from addlib.book import BookError


def test_the_copy_records_where_it_comes_from(executed):
    path = executed.executed("smoke") / "02-number.ipynb"
    notebook = nbformat.read(path, as_version=4)
    facts = notebook.metadata["addlib"]
    assert facts["profile"] == "smoke" and facts["data"] is None and facts["seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", facts["key"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["date"])
    assert {"python", "torch", "numpy", "opencv", "av", "dlib"} == set(facts["versions"])
    assert facts["device"] and facts["commit"]
    assert "papermill" not in notebook.metadata
    assert str(executed.root) not in path.read_text()
    # the tiny package was used, not the one that runs this test
    assert notebook.cells[-1].outputs[0].text == "value 2\n"


def test_text_sent_in_pieces_is_one_output(tiny):
    pieces = "import time\nprint('one', flush=True)\ntime.sleep(0.6)\nprint('two', flush=True)"
    tiny.edit("02-number", "compute", pieces)
    assert book.execute(names=["02-number"], root=tiny.root)
    notebook = nbformat.read(tiny.executed("smoke") / "02-number.ipynb", as_version=4)
    assert [output.text for output in notebook.cells[-1].outputs] == ["one\ntwo\n"]


def test_a_fresh_chapter_is_left_alone(executed, capsys):
    path = executed.executed("smoke") / "02-number.ipynb"
    before = path.stat().st_mtime_ns
    assert book.execute(root=executed.root)
    assert capsys.readouterr().out.split() == ["fresh", "01-pixel", "fresh", "02-number"]
    assert path.stat().st_mtime_ns == before


def test_only_the_changed_chapter_runs_and_with_the_parameters_of_the_profile(executed, capsys):
    text = "common: {profile: smoke}\nchapters: {02-number: {level: 5}}\n"
    (executed.book / "profiles" / "smoke.yaml").write_text(text)
    assert book.execute(root=executed.root)
    assert re.fullmatch(r"fresh  01-pixel\nok     02-number \d+\.\d s\n", capsys.readouterr().out)
    notebook = nbformat.read(executed.executed("smoke") / "02-number.ipynb", as_version=4)
    assert notebook.cells[-1].outputs[0].text == "value 10\n"


def test_failures_are_named_and_kept_apart_and_the_others_run(tiny, capsys):
    first = ("first", "code", "print('before')")
    tiny.chapter("03-raises", first, ("bad", "code", "x = 1\ny = 0\nz = 3\nx / y"))
    tiny.chapter("04-exits", first, ("bad", "code", "import sys\nsys.exit()"), ("after", "code", "1"))
    tiny.chapter("05-hangs", first, ("bad", "code", "import time\ntime.sleep(600)"))
    tiny.chapter("06-dies", first, ("bad", "code", "import os\nos._exit(3)"))
    names = ["03-raises", "04-exits", "05-hangs", "06-dies", "02-number"]
    assert not book.execute(names=names, timeout=4, root=tiny.root)
    out = capsys.readouterr().out
    folder = tiny.executed("smoke")
    assert re.search(r"^ok     02-number", out, re.M)
    shown = r"code cell 3\n +x = 1\n +y = 0\n +z = 3\n +\.\.\.\n +ZeroDivisionError: division"
    assert re.search(rf"FAIL   03-raises: {shown}", out)
    assert re.search(r"FAIL   04-exits: code cell [34]\n", out)
    shown = r"code cell 3\n +import time\n +time\.sleep\(600\)\n"
    assert re.search(rf"FAIL   05-hangs: {shown}.*limit for one cell is 4 s", out)
    assert re.search(r"FAIL   06-dies: code cell 3\n +import os\n +os\._exit\(3\)\n.*(died|limit)", out)
    for name in names[:4]:
        assert not (folder / f"{name}.ipynb").exists()
        assert (folder / f"{name}.failed.ipynb").exists()
        assert f"{name}.failed.ipynb" in out
    assert not list(folder.glob("*.part.ipynb")) and not list(folder.glob("*.job.json"))
    tiny.edit("03-raises", "bad", "print('mended')")
    assert book.execute(names=["03-raises"], root=tiny.root)
    assert not (folder / "03-raises.failed.ipynb").exists()


def test_names_are_checked(tiny):
    with pytest.raises(BookError, match="no such chapter: 09-none; there are 01-pixel, 02-number"):
        book.execute(names=["09-none"], root=tiny.root)


def test_a_folder_that_is_no_project(tmp_path):
    with pytest.raises(BookError, match="no book found"):
        book.execute(root=tmp_path)
