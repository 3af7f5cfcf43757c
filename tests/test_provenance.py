"""Code, commit and device that a number is from."""

import ast
import subprocess
from pathlib import Path

import pytest
import torch

from addlib import provenance


def test_commit(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    assert provenance.commit(tmp_path) == provenance.commit(tmp_path / "nowhere") == "no commit"
    git("init")
    git("commit", "--allow-empty", "-m", "one")
    clean = provenance.commit(tmp_path)
    assert len(clean) == 12 and "dirty" not in clean
    (tmp_path / "data" / "results").mkdir(parents=True)
    (tmp_path / "data" / "results" / "runs.csv").write_text("a row")
    assert provenance.commit(tmp_path) == clean, "a sweep's own rows"
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path) == clean + "-dirty"


FILES = {
    "__init__.py": "def __getattr__(name):\n    from .parts import late\n    return late",
    "low.py": "x = 1  # a comment",
    "alone.py": "y = 1",
    "parts/__init__.py": "from .eager import e\ndef __getattr__(name):\n    from . import late\n    return late",
    "parts/eager.py": "e = 1",
    "parts/late.py": "l = 1",
    "parts/first.py": '"""Docstring."""\ndef f():\n    """Another."""\n    from ..low import x\n    return x',
    "user.py": "from addlib.parts.first import f",
    "whole.py": "from addlib import parts",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "addlib"
    for name, code in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(code)
    monkeypatch.setattr(provenance, "PACKAGE", root)
    return root


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        # The import in a function counts; a parent package counts with what it imports when it is imported itself.
        ("addlib.user", {"__init__.py", "user.py", "parts/__init__.py", "parts/eager.py", "parts/first.py", "low.py"}),
        ("addlib.whole", {"__init__.py", "whole.py", "parts/__init__.py", "parts/eager.py", "parts/late.py"}),
        ("addlib.low", {"__init__.py", "low.py"}),
        ("addlib", {"__init__.py", "parts/__init__.py", "parts/eager.py", "parts/late.py"}),
    ],
)
def test_code_hash_sees_every_module_that_code_reaches(package, module, counts):
    before = provenance.code_hash(module)
    assert len(before) == 12
    for name in FILES:
        (package / name).write_text(FILES[name] + "\n1 / 0\n")
        assert (provenance.code_hash(module) != before) == (name in counts), name
        (package / name).write_text(FILES[name])
    assert provenance.code_hash(module) == before


def test_code_hash_ignores_comments_docstrings_and_layout(package):
    before = provenance.code_hash("addlib.user")
    (package / "low.py").write_text('"""Says what it is."""\n\nx   =   1\n')
    (package / "parts/first.py").write_text("def f():\n    from ..low import x  # where it is used\n\n    return x")
    assert provenance.code_hash("addlib.user") == before
    (package / "low.py").write_text("x = 2")
    assert provenance.code_hash("addlib.user") != before
    with pytest.raises(ValueError, match="addlib.nothing.*full names"):
        provenance.code_hash("addlib.nothing")


def test_imports_of_code_and_modules_behind_them(package):
    cells = "import numpy\nfrom addlib.parts.first import f\nfrom addlib import low, parts, unknown\nimport addlib.alone as a"
    found = provenance.imported_modules(cells)
    assert found == ["addlib", "addlib.alone", "addlib.low", "addlib.parts", "addlib.parts.first"]
    assert provenance.modules_behind("addlib.low") == ["addlib", "addlib.low"]


def test_the_library_hides_no_import_from_the_hash():
    for path in provenance.PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        names = {getattr(node, "id", None) or getattr(node, "attr", None) for node in nodes}
        assert not names & {"import_module", "__import__"}, path


def test_digest_of_settings():
    assert provenance.digest({"a": 1, "b": (0.9, 2)}) == provenance.digest({"b": [0.9, 2], "a": 1})
    assert provenance.digest({"a": 1}) != provenance.digest({"a": 1.5}) and len(provenance.digest(None)) == 12


def test_a_training_on_the_cpu_names_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert provenance.device() == provenance.device("gpu") == "a GPU"
    assert provenance.device("cpu") != "a GPU" and provenance.record(Path(), "cpu")["device"] != "a GPU"
