"""The sources of the chapters: form, tags, parameters, anatomy. No kernel is started."""

import json
import re
from pathlib import Path

import nbformat
import pytest

import findings
from builder.chapters import BY_HAND, parameters
from builder.project import Project, code_cells, read, tags
from builder.validate import IGNORED

PROJECT = Project()
SOURCES = sorted(PROJECT.book.glob("*.ipynb"))
PROFILES = sorted(path.stem for path in (PROJECT.book / "profiles").glob("*.yaml"))

# Tags that something reads; another one is most likely a slip of the pen.
KNOWN_TAGS = {
    "parameters", "hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell",
    "nbval-ignore-output", "nbval-skip", "nbval-check-output", "full-width", "margin", "digest", BY_HAND,
}  # fmt: skip

# Numbers in openings and summaries that the expected text does not have: settings, sums of what is printed, and what
# depends on the machine.
SETTINGS = {"28", "160", "448", "95", "99"}  # people, frames, levels of intervals
OF_ONE_PAGE = {
    "01-what-compression-takes-away": {"0.03"},
    "02-the-data": {"74"},
    "04-frequency-attention": {"0.04", "0.36", "1.02", "70", "1.13"},
    "08-against-other-detectors": {"183"},
    "12-what-it-costs": {"1.5", "3.2", "63"},
    "13-what-reproduces": {"1.7"},
}

each_chapter = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def text(path: Path) -> str:
    return "\n\n".join(cell["source"] for cell in read(path)["cells"] if cell["cell_type"] == "markdown")


@each_chapter
def test_form(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cell ids need format 4.5"
    read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in notebook.metadata and "widgets" not in notebook.metadata
    assert re.fullmatch(r"[a-z0-9-]+", path.stem)
    for cell in read(path)["cells"]:
        assert set(tags(cell)) <= KNOWN_TAGS, f"cell {cell['id']}"
    for cell in code_cells(read(path)):
        assert cell["outputs"] == [] and cell["execution_count"] is None, f"clear the outputs of cell {cell['id']}"


@each_chapter
def test_parameters_are_those_of_profile_smoke(path):
    declared, given = parameters(PROJECT, "smoke", path)
    assert declared.pop("profile") == "auto"
    assert given.pop("profile") == "smoke"
    assert {name: declared[name] for name in given} == given
    for profile in PROFILES:
        assert parameters(PROJECT, profile, path)[1]["profile"] == profile


@each_chapter
def test_cells(path):
    """What draws has alt text, as far as the source shows it. A cell that measures time prints it, and asserts nothing of it."""
    for cell in code_cells(read(path)):
        described = cell["metadata"].get("mystnb", {})
        if "plt.show(" in cell["source"]:
            assert len(described.get("image", {}).get("alt", "")) >= 20, f"cell {cell['id']}"
        if "figures.Panels(" in cell["source"]:
            caption = described.get("figure", {}).get("caption", "")
            sides = re.findall(r"\b(?:Left|Right)\b[:,]|\((?:left|right)\)|(?:on|at) the (?:left|right)\b|(?:left|right) panel", caption)
            assert not sides, f"cell {cell['id']}: panels stack on a phone"
        if re.search(r"timeit\.|perf_counter\(", cell["source"]):
            asserted = [line for line in cell["source"].splitlines() if line.lstrip().startswith("assert ")]
            assert asserted == [], f"cell {cell['id']} would fail where the machine is busy"


@pytest.mark.parametrize("name", ["01", "03", "04", "06"])
def test_sliders(name):
    """Where choosing by hand teaches something, the page has a slider, with a caption, that needs no kernel."""
    (path,) = PROJECT.book.glob(f"{name}-*.ipynb")
    (cell,) = [cell for cell in code_cells(read(path)) if "figures.Slider(" in cell["source"]]
    assert cell["metadata"]["mystnb"]["figure"]["caption"]


@pytest.mark.parametrize("path", [path for path in SOURCES if path.stem[:2].isdigit()], ids=lambda path: path.stem)
def test_anatomy(path):
    """Of the numbered chapters; reference pages and how-tos are shorter."""
    prose = text(path)
    # 1,000 to 3,300 words, without code, equations, tables, directives and comments; what stands between dollars is one word.
    words = re.sub(r"^(`{3,})(?!`)[^`]*?^\1$|\$\$.*?\$\$|<!--.*?-->", "", prose, flags=re.M | re.S)
    words = re.sub(r"^(:{3}|:\w|`{3}|\|).*$", "", re.sub(r"\$[^$\n]+\$", "x", words), flags=re.M)
    assert 1000 <= len(re.findall(r"[A-Za-z0-9][\w’'.,-]*", words)) <= 3300
    # Shown source has comments that look like headings.
    unfenced = re.sub(r"^(`{3,})(?!`)[^`]*?^\1$", "", prose, flags=re.M | re.S)
    assert len(re.findall(r"^# \S", unfenced, re.M)) == 1, "one heading of level one"
    assert "What you will learn" in prose
    headings = [h.strip() for h in re.findall(r"^## (.+)$", prose, re.M)]
    closing = [heading for heading in headings if heading in ("Summary", "Limits", "Exercises", "References")]
    assert closing == ["Summary", "Limits", "Exercises", "References"]
    exercises = re.findall(r"^[:`]{3,}\{exercise(?:-start)?\}", prose, re.M)
    solutions = re.findall(r"^[:`]{3,}\{solution(?:-start)?\}", prose, re.M)
    assert 2 <= len(exercises) <= 4 and len(exercises) == len(solutions)


PAGES = sorted(path for kind in ("*.md", "*.ipynb") for path in PROJECT.book.glob(kind))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_line_breaks_between_a_number_and_its_unit(path):
    prose = path.read_text(encoding="utf-8") if path.suffix == ".md" else text(path)
    prose = re.sub(r"^(`{3,})(?!`)[^`]*?^\1$|`[^`\n]+`", "", prose, flags=re.M | re.S)
    assert re.findall(r".{12}\d (?:%|±|px|AUC points|dB)(?!\w)", prose) == []


@each_chapter
def test_expected_text_belongs_to_cells_that_exist(path):
    kept = PROJECT.expected / f"{path.stem}.json"
    assert kept.is_file(), "run 'make execute refresh'"
    cells = {cell["id"]: cell for cell in code_cells(read(path))}
    for identifier in json.loads(kept.read_text(encoding="utf-8"))["cells"]:
        assert identifier in cells
        assert not IGNORED & set(tags(cells[identifier]))
    assert {kept.stem for kept in PROJECT.expected.glob("*.json")} <= {source.stem for source in SOURCES}, "one left over"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.stem[:2].isdigit()], ids=lambda path: path.stem)
def test_numbers_of_opening_and_summary_are_printed(path):
    """Each number of two digits or more is one that the page prints, perhaps in other units, or bound to a finding (test_findings.py).

    So it cannot outlive its rows: with them the printed text changes, and with that this test.
    """
    prose = findings.STATED.sub("", text(path))
    opening, rest = prose.split(":::{admonition} What you will learn")
    summary = rest.partition("\n## Summary\n")[2].partition("\n## ")[0]
    plain = re.sub(r"\$[^$]+\$|\]\([^)]*\)|`[^`]*`", "", opening + summary)
    said = re.findall(r"(?<![\w.,])(?:\d+\.\d+|\d{2,})(?!\w|[.,]\d)", plain)
    printed = (PROJECT.expected / f"{path.stem}.json").read_text(encoding="utf-8")
    known = [scale * float(each) for each in re.findall(r"\d+\.\d+", printed) for scale in (1, 100, 0.001)]
    rounded = {f"{value:.{places}f}" for value in known for places in range(6)}
    rounded |= {number + zero for number in re.findall(r"\d+", printed) for zero in ("", ".0")}
    assert set(said) - rounded - SETTINGS - OF_ONE_PAGE.get(path.stem, set()) == set()
