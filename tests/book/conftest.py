"""A tiny book in a temporary folder: two chapters, a little package of its own, the real settings."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "book"), str(ROOT)]  # as the cases outside pytest need it, too

import builder
from addlib import provenance
from builder.project import Project

ALT = "One blue pixel, drawn to stand for a figure."
# A picture without a plotting library: the smallest PNG, one pixel.
DRAW = """
import base64
from IPython.display import display
png = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPj/HwADAgH/"
    "p9Z7pQAAAABJRU5ErkJggg=="
)
display({"image/png": png, "text/plain": "<a pixel>"}, raw=True)
print("one pixel")
"""


class TinyBook(Project):
    """A project whose chapters the tests write."""

    def chapter(self, name: str, *cells: tuple, parameters: str = 'profile = "smoke"\nlevel = 1') -> Path:
        """Write a chapter; ``cells`` are (id, 'code' or 'markdown', source, metadata)."""
        made = [new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]})]
        if not any(kind == "markdown" for _, kind, *_ in cells):
            cells = (("title", "markdown", f"# Title of {name}"), *cells)
        for identifier, kind, source, *metadata in cells:
            new = new_code_cell if kind == "code" else new_markdown_cell
            made.append(new(source, id=identifier, metadata=metadata[0] if metadata else {}))
        made.sort(key=lambda cell: cell.id != "title")
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.book / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
        return path

    def edit(self, name: str, identifier: str, source: str) -> None:
        """Replace the source of one cell."""
        path = self.book / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        (cell,) = [cell for cell in notebook.cells if cell.id == identifier]
        cell.source = source
        nbformat.write(notebook, path)


def make(root: Path) -> TinyBook:
    for folder in ("book/profiles", "addlib", "tests/book"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: 01-pixel\n  - file: 02-number\n  - file: status\n"
    )
    tiny = TinyBook(root)
    shutil.copy(ROOT / "tests" / "book" / "nbval.cfg", root / "tests" / "book")
    shutil.copytree(ROOT / "book" / "assets", tiny.book / "assets")
    shutil.copytree(ROOT / "book" / "_ext", tiny.book / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    modules = {
        "__init__": "",
        "used": "from addlib import deep\n\nvalue = deep.value\n",
        "deep": "value = 2\n\n\ndef late():\n    from addlib import lazy\n\n    return lazy\n",
        "lazy": "",
        "unused": "",
    }
    for name, source in modules.items():
        (root / "addlib" / f"{name}.py").write_text(source)
    (root / "requirements.lock").write_text("numpy==1\n")
    (tiny.book / "profiles" / "smoke.yaml").write_text("common:\n  profile: smoke\n  unheard_of: 1\nchapters: {}\n")
    (tiny.book / "references.bib").write_text("")
    (tiny.book / "intro.md").write_text("# Intro\n\nHello.\n")
    tiny.chapter(
        "01-pixel",
        ("title", "markdown", "# A pixel\n\nThe first prose.\n\n$$\na = b\n$$ (eq-a)\n"),
        ("draw", "code", DRAW, {"mystnb": {"image": {"alt": ALT}}}),
    )
    tiny.chapter("02-number", ("compute", "code", "from addlib.used import value\nprint('value', value * level)"))
    return tiny


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> TinyBook:
    """A tiny book that nothing has executed yet."""
    made = make(tmp_path / "project")
    monkeypatch.setattr(provenance, "PACKAGE", made.root / "addlib")
    return made


@pytest.fixture(scope="session")
def executed_once(tmp_path_factory) -> TinyBook:
    made = make(tmp_path_factory.mktemp("executed") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "PACKAGE", made.root / "addlib")
        assert builder.execute(root=made.root)
    return made


@pytest.fixture
def executed(executed_once, tmp_path, monkeypatch) -> TinyBook:
    """A copy of a tiny book with its executed chapters, to be changed at will."""
    made = TinyBook(shutil.copytree(executed_once.root, tmp_path / "project"))
    monkeypatch.setattr(provenance, "PACKAGE", made.root / "addlib")
    return made
