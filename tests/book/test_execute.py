"""Executing chapters: records, failures, what is not run again, and machines as they are."""

import contextlib
import os
import re
import subprocess
import sys
import threading

import pytest

import builder
from builder import BookError
from builder.chapters import time_limit
from builder.project import read

BUILDER = os.path.dirname(builder.__file__)


def texts(path):
    return ["".join(output["text"]) for cell in read(path)["cells"] for output in cell.get("outputs", [])]


def test_the_copy_records_where_it_comes_from(executed):
    notebook = read(executed.executed("02-number"))
    facts = notebook["metadata"]["addlib"]
    assert facts["profile"] == "smoke" and facts["data"] is None and facts["seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", facts["key"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["date"])
    assert {"python", "torch", "numpy", "opencv", "av", "dlib"} == set(facts["versions"])
    assert facts["device"] and facts["commit"]
    assert "papermill" not in notebook["metadata"]
    assert str(executed.root) not in executed.executed("02-number").read_text()
    # the tiny package was used, not the one that runs this test
    assert texts(executed.executed("02-number")) == ["value 2\n"]


def test_text_sent_in_pieces_is_one_output(tiny):
    tiny.edit("02-number", "compute", "import time\nprint('one', flush=True)\ntime.sleep(0.6)\nprint('two', flush=True)")
    assert builder.execute(names=["02-number"], root=tiny.root)
    assert texts(tiny.executed("02-number")) == ["one\ntwo\n"]


def test_only_the_changed_chapter_runs_and_with_the_parameters_of_the_profile(executed, capsys):
    before = executed.executed("01-pixel").stat().st_mtime_ns
    assert builder.execute(root=executed.root)
    assert capsys.readouterr().out.split() == ["fresh", "01-pixel", "fresh", "02-number"]
    text = "common: {profile: smoke}\nchapters: {02-number: {level: 5}}\n"
    (executed.book / "profiles" / "smoke.yaml").write_text(text)
    assert builder.execute(root=executed.root)
    out = capsys.readouterr().out
    assert re.fullmatch(r"fresh  01-pixel\n1 to run, \d+ at once: about \d+ s\nok     02-number \d+\.\d s\n", out)
    assert executed.executed("01-pixel").stat().st_mtime_ns == before
    assert texts(executed.executed("02-number")) == ["value 10\n"]


def test_failures_are_named_and_kept_apart_and_the_others_run(tiny, capsys):
    first = ("first", "code", "print('before')")
    tiny.chapter("03-raises", first, ("bad", "code", "x = 1\ny = 0\nx / y"))
    tiny.chapter("04-exits", first, ("bad", "code", "import sys\nsys.exit()"), ("after", "code", "1"))
    tiny.chapter("05-hangs", first, ("bad", "code", "import time\ntime.sleep(600)"))
    tiny.chapter("06-dies", first, ("bad", "code", "import os\nos._exit(3)"))
    names = ["03-raises", "04-exits", "05-hangs", "06-dies"]
    assert not builder.execute(names=[*names, "02-number"], timeout=4, root=tiny.root)
    out = capsys.readouterr().out
    assert re.search(r"^ok     02-number", out, re.M)
    assert re.search(r"FAIL   03-raises: PapermillExecutionError(?s:.*)x / y(?s:.*)ZeroDivisionError: division", out)
    assert re.search(r"FAIL   04-exits: .*(SystemExit|did not complete)", out)
    assert re.search(r"FAIL   05-hangs: .*the limit for one cell is 4 s", out)
    assert re.search(r"FAIL   06-dies: .*(Dead|limit)", out)
    for name in names:
        assert not tiny.executed(name).exists() and f"{name}.failed.ipynb" in out
    left = {path.name for path in tiny.executed("x").parent.iterdir()}
    assert left == {"02-number.ipynb", *(f"{name}.failed.ipynb" for name in names)}
    tiny.edit("03-raises", "bad", "print('mended')")
    assert builder.execute(names=["03-raises"], root=tiny.root)
    assert not tiny.executed("03-raises.failed").exists()


def test_names_and_folders_are_checked(tiny, tmp_path):
    with pytest.raises(BookError, match="no such chapter: 09-none; there are 01-pixel, 02-number"):
        builder.execute(names=["09-none"], root=tiny.root)
    with pytest.raises(BookError, match="no book found"):
        builder.execute(root=tmp_path)


def test_three_chapters_or_more_have_warm_kernels(tiny, monkeypatch):
    tiny.chapter("03-warm", ("where", "code", "import os; print(os.environ['JUPYTER_PATH'])"))
    asked = []

    @contextlib.contextmanager
    def warm(values, count):
        asked.append(count)
        yield values | {"JUPYTER_PATH": "a place"}

    monkeypatch.setattr(sys.modules["builder.execute"], "warm_kernels", warm)
    assert builder.execute(root=tiny.root) and asked == [3]
    assert texts(tiny.executed("03-warm")) == ["a place\n"]


def test_the_longest_chapters_run_first(tiny, capsys):
    tiny.chapter("03-trains", ("a", "code", "1"), parameters='profile = "smoke"\nepochs = 1')
    assert builder.execute(jobs=1, root=tiny.root)
    assert re.findall(r"^ok +(\S+)", capsys.readouterr().out, re.M)[0] == "03-trains"


def test_two_at_once_take_turns(tiny, capsys):
    """The second waits, says for whom, and finds the work done."""
    tiny.edit("02-number", "compute", "import time\ntime.sleep(3)")
    other = threading.Thread(target=builder.execute, kwargs={"root": tiny.root})
    code = f"import sys; sys.path.insert(0, {os.path.dirname(BUILDER)!r}); import builder; builder.execute(root='.')"
    other.start()
    while not (tiny.build / "builder.txt").exists():
        pass
    second = subprocess.run([sys.executable, "-c", code], cwd=tiny.root, capture_output=True, text=True, timeout=120)
    other.join()
    assert re.search(r"waiting for .*executing the chapters of profile smoke, process \d+, since", second.stdout), second
    assert not list(tiny.executed("x").parent.glob("*.failed.ipynb"))


def test_what_the_machine_brings_along_does_not_count(tiny, monkeypatch, tmp_path):
    """No home that can be written, another project's kernel and settings, variables that others left behind."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "other", "language": "python"}')
    left = {"HOME": "/dev/null", "JUPYTER_PATH": str(tmp_path / "jupyter"), "MPLBACKEND": "Agg", "LC_ALL": "C"}
    left |= {"RANK": "1", "WORLD_SIZE": "2", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "5", "PYTHONOPTIMIZE": "1"}
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    tiny.edit(
        "02-number", "compute",
        "import os, sys\nprint('é', [os.environ.get(name) for name in ('RANK', 'WORLD_SIZE', 'PYTHONHASHSEED',"
        " 'OMP_NUM_THREADS')], sys.executable, __debug__)\nimport matplotlib\nprint(matplotlib.get_backend())",
    )  # fmt: skip
    assert builder.execute(names=["02-number"], root=tiny.root)
    (said,) = texts(tiny.executed("02-number"))
    assert said == f"é [None, None, '0', '1'] {sys.executable} True\nmodule://matplotlib_inline.backend_inline\n"
    assert os.environ["RANK"] == "1", "the caller's environment is as it was"


@pytest.mark.parametrize("arguments", [["--help"], ["execute", "--help"], ["publish", "--profile", "nowhere"]])
def test_command_line(arguments):
    done = subprocess.run([sys.executable, BUILDER, *arguments], capture_output=True, text=True)
    if "--help" in arguments:
        assert done.returncode == 0 and "publish" in done.stdout or "--timeout" in done.stdout
    else:
        assert done.returncode == 1 and done.stderr.startswith("book: error: no profile 'nowhere'; there are paper, ")


def test_a_look_at_fresh_chapters_loads_nothing_heavy(executed):
    heavy = ("torch", "sphinx", "papermill", "IPython")
    code = f"""import sys; sys.path.insert(0, {os.path.dirname(BUILDER)!r})
import builder; from addlib import provenance; from pathlib import Path
provenance.PACKAGE = Path("addlib").resolve()
assert builder.execute(root='.'); print([m for m in {heavy} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=executed.root, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["fresh  01-pixel", "fresh  02-number", "[]"], done


def test_a_finding_that_does_not_hold_stops_the_profile_of_the_expected_text_only(tiny):
    """With other networks and data it is said on the page, hours after the start."""
    check = "for n in (1, 3):\n    assert n > 2, f'{n} is small'\nassert 1 > 2\nprint('on')"
    tiny.chapter("02-number", ("check", "code", check))
    (tiny.book / "profiles" / "large.yaml").write_text("timeout: 3600\ncommon: {profile: large}\n")
    assert (time_limit(tiny, "smoke"), time_limit(tiny, "large")) == (600, 3600)
    assert not builder.execute(root=tiny.root, names=["02-number"])
    assert builder.execute("large", root=tiny.root, names=["02-number"])
    (said,) = read(tiny.executed("02-number", "large"))["cells"][-1]["outputs"]
    assert "".join(said["text"]) == "NOT SO HERE: 1 is small\nNOT SO HERE: 1 > 2\non\n"
