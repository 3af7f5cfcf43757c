"""Sphinx extension: how the book's pages look where the theme has no setting for it.

Fonts served by the site itself; charts told from pictures, for dark pages; tables that a code cell draws, numbered
with the other tables; figures and equations of pages without a chapter number, numbered apart.
"""

from importlib.resources import files
from pathlib import Path
from string import ascii_uppercase

import numpy as np
from docutils import nodes
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.transforms import SphinxTransform

FONTS = ("fontpkg_source_sans_3", "fontpkg_source_code_pro")  # SIL Open Font License 1.1
SHORT = 30  # letters of TeX; a longer formula may have to be broken on a phone
CHART = 0.8  # a plot is white over more of its area than this, a picture or a map of values over less


def setup(app) -> dict:
    app.add_enumerable_node(CellTable, "table", html=(_open_figure, _close_figure))
    app.add_transform(CellTables)
    app.connect("doctree-read", _keep_punctuation)
    app.connect("doctree-resolved", _mark_charts)
    app.connect("env-get-updated", _number_apart, priority=900)  # after Sphinx has given its numbers
    app.connect("build-finished", _copy_fonts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# --- fonts ---


def _copy_fonts(app, exception) -> None:
    """Put the installed fonts into _static/fonts as WOFF, which packs them and changes nothing, with their licences."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static", "fonts")
    folder.mkdir(parents=True, exist_ok=True)
    for package in FONTS:
        (folder / f"{package}-LICENSE.txt").write_bytes((files(package) / "LICENSE").read_bytes())
        for path in (files(package) / "files").iterdir():
            font = TTFont(path, recalcBBoxes=False, recalcTimestamp=False)
            font.flavor = "woff"
            font.save(folder / f"{path.name.partition('[')[0]}.woff")


# --- formulas ---


def _keep_punctuation(app, doctree) -> None:
    """Keep a short formula in one line with the mark after it: browsers break there, since a formula is no text to them."""
    for math in list(doctree.findall(nodes.math)):
        after = math.next_node(descend=False, siblings=True)
        if len(math.astext()) <= SHORT and isinstance(after, nodes.Text) and after.startswith(tuple(".,;:)’”!?")):
            math.parent[math.parent.index(math) + 1] = nodes.Text(after[1:])  # replace() would take the first text that is equal
            math.replace_self(nodes.inline("", "", math.deepcopy(), nodes.Text(after[0]), classes=["together"]))


# --- figures ---


def _mark_charts(app, doctree, page) -> None:
    """Give drawn plots the class ``chart``, which custom.css turns dark; ``picture`` or ``chart`` of the cell come first."""
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".png" and path.is_file() and not {"chart", "picture"} & set(image["classes"]):
            pixels = np.asarray(Image.open(path).convert("RGBA"))
            if pixels[0, 0, 3] and (pixels[..., :3].min(2) >= 250).mean() > CHART:  # pictures have a transparent margin
                image["classes"].append("chart")


# --- tables of code cells ---


class CellTable(nodes.figure):
    """A figure whose content is a table: counted and called a table, its caption above it."""


def _open_figure(writer, node) -> None:
    writer.visit_figure(node)


def _close_figure(writer, node) -> None:
    writer.depart_figure(node)


class CellTables(SphinxTransform):
    """Cells with ``mystnb: {figure: {classes: cell-table, caption: …, name: …}}``, and cells tagged ``digest``.

    What the latter print is there for the comparison with expected outputs and not for readers.
    """

    default_priority = 400

    def apply(self) -> None:
        for figure in list(self.document.findall(nodes.figure)):
            if "cell-table" in figure["classes"]:
                captions = [child for child in figure if isinstance(child, nodes.caption)]
                others = [child for child in figure if child not in captions]
                table = CellTable("", *captions, *others, **figure.attributes)
                table.source, table.line = figure.source, figure.line
                figure.replace_self(table)
                self.document.ids.update(dict.fromkeys(table["ids"], table))
        for cell in list(self.document.findall(nodes.container)):
            if "tag_digest" in cell["classes"]:
                for printed in [node for node in cell.findall(nodes.literal_block) if "stream" in node["classes"]]:
                    printed.parent.remove(printed)


# --- numbers ---


def _number_apart(app, env) -> list[str]:
    """Figures, tables and equations of pages without a chapter number: A.1, A.2, B.1 … instead of one long count."""
    letters = iter(ascii_uppercase)
    for page, kinds in env.toc_fignumbers.items():
        plain = [each for each in kinds.values() if any(len(number) == 1 for number in each.values())]
        if plain and page != env.config.root_doc:
            letter = next(letters)
            for each in plain:
                each.update({label: (letter, place) for place, label in enumerate(each, start=1)})
    return []
