"""Source shown in a chapter is the source that addlib ships.

A fenced python block whose first line is ``# addlib/….py`` shows lines of that file. Lines that hold only ``...`` stand for
what is left out; every piece between them must be found there, line after line, up to a common indentation.
"""

import re
import textwrap

import pytest

from builder.project import Project, read

PROJECT = Project()
FENCE = re.compile(r"^```(?:\{code-block\} )?python\n(?::[^\n]*\n)*\n?# (addlib/[\w/]+\.py)\n(.*?)^```$", re.M | re.S)
DERIVATIONS = ("04-frequency-attention", "05-optimal-transport-and-slices", "06-multi-view-attention")


def shown() -> list[tuple[str, str, str]]:
    """(chapter, file, text) of every block."""
    found = []
    for path in sorted(PROJECT.book.glob("*.ipynb")):
        for cell in read(path)["cells"]:
            if cell["cell_type"] == "markdown":
                found += [(path.stem, *match) for match in FENCE.findall(cell["source"])]
    return found


def missing(text: str, source: str) -> list[str]:
    """Pieces of the shown text that the source does not hold."""
    lines = [line.rstrip() for line in source.splitlines()]
    absent = []
    for piece in re.split(r"^ *\.\.\. *$", text, flags=re.M):
        wanted = textwrap.dedent(piece.strip("\n")).splitlines()
        windows = (
            textwrap.dedent("\n".join(lines[start : start + len(wanted)])).splitlines()
            for start in range(len(lines) - len(wanted) + 1)
        )
        if wanted and wanted not in windows:
            absent.append("\n".join(wanted))
    return absent


@pytest.mark.parametrize(("stem", "file", "text"), shown(), ids=lambda value: value.replace("\n", " ")[:30])
def test_shown_source_is_shipped(stem, file, text):
    source = (PROJECT.root / file).read_text(encoding="utf-8")
    assert missing(text, source) == [], f"{stem} shows lines that {file} does not hold"


@pytest.mark.parametrize("stem", [stem for stem in DERIVATIONS if (PROJECT.book / f"{stem}.ipynb").exists()])
def test_derivations_show_the_source(stem):
    assert stem in {name for name, _, _ in shown()}


def test_a_changed_line_is_noticed():
    source = "def f(x):\n    y = x + 1\n    return y\n"
    assert missing("def f(x):\n...\n    return y\n", source) == []
    assert missing("y = x + 1\nreturn y", source) == []
    assert missing("y = x + 2", source) == ["y = x + 2"]
    assert missing("def f(x):\n    return y", source) == ["def f(x):\n    return y"]
