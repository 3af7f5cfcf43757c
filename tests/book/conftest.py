"""A tiny book in a temporary folder: two chapters, a little package of its own, the real settings."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "book"), str(ROOT)]  # whoever loads this file without pytest needs it too

import builder  # noqa: E402
from addlib import provenance  # noqa: E402
from builder.project import Project, as_bytes, read  # noqa: E402

# A picture without a plotting library: the smallest PNG, one pixel.
DRAW = """
from IPython.display import display
png = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAA"
    "AADElEQVR4nGNgYPgPAAEDAQAIicLsAAAAAElFTkSuQmCC"
)
display({"image/png": png, "text/plain": "<a pixel>"}, raw=True)
print("one pixel")
"""
DRAWN = {"mystnb": {"image": {"alt": "One blue pixel, drawn to stand for a figure."}}}
MODULES = {
    "__init__": "",
    "used": "from addlib import deep\n\nvalue = deep.value\n",
    "deep": "value = 2\n",
    "unused": "",
    "results": "",
}


class TinyBook(Project):
    """A project whose chapters the tests write."""

    def chapter(self, name: str, *cells: tuple, parameters: str = 'profile = "smoke"\nlevel = 1') -> Path:
        """Write a chapter; ``cells`` are (id, 'code' or 'markdown', source, metadata)."""
        title = [] if any(kind == "markdown" for _, kind, *_ in cells) else [("title", "markdown", f"# Title of {name}")]
        title += [cell for cell in cells if cell[0] == "title"]
        own = ("parameters", "code", parameters, {"tags": ["parameters"]})
        made = []
        for identifier, kind, source, *metadata in [*title, own, *(cell for cell in cells if cell[0] != "title")]:
            cell = {"id": identifier, "cell_type": kind, "source": source, "metadata": metadata[0] if metadata else {}}
            made.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        path = self.book / f"{name}.ipynb"
        path.write_bytes(as_bytes(notebook))
        return path

    def edit(self, name: str, identifier: str, source: str | None = None, metadata: dict | None = None) -> None:
        """Replace source or metadata of one cell."""
        path = self.book / f"{name}.ipynb"
        notebook = read(path)
        (cell,) = [cell for cell in notebook["cells"] if cell["id"] == identifier]
        cell["source"] = cell["source"] if source is None else source
        cell["metadata"] = cell["metadata"] if metadata is None else metadata
        path.write_bytes(as_bytes(notebook))

    def executed(self, name: str, profile: str = "smoke") -> Path:
        return self.build / "executed" / profile / f"{name}.ipynb"

    def expected_text(self, name: str) -> dict:
        return json.loads((self.expected / f"{name}.json").read_text(encoding="utf-8"))


def make(root: Path) -> TinyBook:
    for folder in ("book/profiles", "addlib", "tests/book"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "tests" / "book" / "nbval.cfg", root / "tests" / "book")
    for folder in ("assets", "_ext"):
        shutil.copytree(ROOT / "book" / folder, root / "book" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pages = "".join(f"  - file: {name}\n" for name in ("01-pixel", "02-number", "status"))
    (root / "book" / "_toc.yml").write_text(f"format: jb-book\nroot: intro\nchapters:\n{pages}")
    for name, source in MODULES.items():
        (root / "addlib" / f"{name}.py").write_text(source)
    (root / "requirements.lock").write_text("numpy==1\n")
    tiny = TinyBook(root)
    (tiny.book / "profiles" / "smoke.yaml").write_text("common:\n  profile: smoke\n  unheard_of: 1\nchapters: {}\n")
    (tiny.book / "references.bib").write_text("")
    (tiny.book / "intro.md").write_text("# Intro\n\nHello.\n")
    title = ("title", "markdown", "# A pixel\n\nThe first prose.\n\n$$\na = b\n$$ (eq-a)\n")
    tiny.chapter("01-pixel", title, ("draw", "code", DRAW, DRAWN))
    tiny.chapter("02-number", ("compute", "code", "from addlib.used import value\nprint('value', value * level)"))
    return tiny


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> TinyBook:
    """A tiny book that nothing has executed yet."""
    made = make(tmp_path / "a project [1]")
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
    made = TinyBook(shutil.copytree(executed_once.root, tmp_path / "a project {1}"))
    monkeypatch.setattr(provenance, "PACKAGE", made.root / "addlib")
    return made


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    if not (executable := next(filter(None, map(shutil.which, names)), None)):
        refuse = pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip
        refuse(f"none of {', '.join(names)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()
