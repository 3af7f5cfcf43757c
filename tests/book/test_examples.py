"""The examples on the reference pages run and print what stands there."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = sorted(BOOK.glob("api-*.md"))


def test_there_are_pages():
    assert len(PAGES) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=flags, encoding="utf-8")
    assert tried >= 4 and not failed


@pytest.mark.slow
def test_what_one_adds_runs_as_it_stands(tree, prepared):
    """The page on distillers, detectors and codecs of one's own, on small data, in a process that may register names."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", (BOOK / "how-to-add-your-own.md").read_text("utf-8"), re.M | re.S))
    for name, here in {"data/crops/miniforensics": prepared, "data/miniforensics": tree, "NeuralTextures": "FaceSwap"}.items():
        code = code.replace(f'"{name}"', repr(str(here)))
    code = code.replace('"epochs": 1', '"epochs": 1, "batch_size": 4')  # there are sixteen crops
    done = subprocess.run([sys.executable, "-c", code], cwd=BOOK.parent, capture_output=True, text=True)
    assert re.search(r"^test AUC 0\.\d+\n\d+ crops, \d+ kbit/s$", done.stdout, re.M), done.stderr


@pytest.mark.parametrize("page", ["how-to-your-own-faceforensics.md", "02-the-data.ipynb"])
def test_messages_that_a_page_quotes_are_those_of_the_code(page):
    """Whoever meets one searches the page for it. Pages write n, … or a name where the message has a value."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (BOOK.parent / "addlib").rglob("*.py")]
    texts = [getattr(node, "values", [node]) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.Constant)]
    said = ["".join(str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "\0" for part in parts) for parts in texts]
    text = (BOOK / page).read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")
    table = text[text.index("| it says |") if ".md" in page else text.index("| what is wrong |") :]
    quoted = re.findall(r"(?<!\*)\*([^*|`]+)\*(?!\*)", "\n".join(re.findall(r'^ *"?\| .*\|', table, re.M)))
    assert len(quoted) > 6
    for message in quoted:
        values = r"\b(?:n|c23|raw|youtube|FaceShifter|train\.json|presentation time|dx|dy|\d+)\b|…"
        pattern = re.sub(values, "\0", message)
        pieces = [piece.strip() for piece in pattern.split("\0") if len(piece.strip()) > 2]
        assert any(all(piece in each for piece in pieces) for each in said), message
