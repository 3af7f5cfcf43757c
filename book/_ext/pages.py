"""Sphinx extension: how the book's pages look where the theme has no setting for it.

Fonts served by the site itself; tables that a code cell draws, numbered with the other tables; figures and equations
of pages without a chapter number, numbered apart; no inherited noise in the reference; author and year as labels.
"""

from importlib.resources import files
from pathlib import Path
from string import ascii_uppercase

import pybtex.plugin
from docutils import nodes
from fontTools.ttLib import TTFont
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.transforms import SphinxTransform

FONTS = ("fontpkg_source_sans_3", "fontpkg_source_code_pro")  # SIL Open Font License 1.1
# What a base class says of its own members: a named tuple of its fields, a module of its forward.
NOISE = ("Alias for field number", "Should be overridden by all subclasses")


def setup(app) -> dict:
    pybtex.plugin.register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    app.add_enumerable_node(
        CellTable,
        "table",
        html=(lambda writer, node: writer.visit_figure(node), lambda writer, node: writer.depart_figure(node)),
    )
    app.add_transform(CellTables)
    app.connect("autodoc-skip-member", _skip_noise)
    app.connect("autodoc-process-signature", _own_signature)
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


# --- tables of code cells ---


class CellTable(nodes.figure):
    """A figure whose content is a table: counted and called a table, its caption above it."""


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


# --- reference ---


def _skip_noise(app, what, name, obj, skip, options) -> bool | None:
    return True if (getattr(obj, "__doc__", None) or "").startswith(NOISE) else None


def _own_signature(app, what, name, obj, options, signature, returns):
    """A class without an ``__init__`` of its own takes nothing; its base's catch-all says the opposite."""
    return ("()", returns) if what == "class" and signature == "(*args, **kwargs)" else None


# --- bibliography ---


class AuthorYearLabels(BaseLabelStyle):
    """Demšar, 2006; two of the same name and year get a letter."""

    def format_labels(self, entries):
        plain = [self._label(entry) for entry in entries]
        for place, label in enumerate(plain):
            same = [other for other, each in enumerate(plain) if each == label]
            yield label + (ascii_uppercase[same.index(place)].lower() if len(same) > 1 else "")

    @staticmethod
    def _label(entry) -> str:
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [" ".join(person.prelast_names + person.last_names) for person in people]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        return f"{who or entry.key}, {entry.fields.get('year', 'n.d.')}"


class AuthorYearStyle(Style):
    default_label_style = AuthorYearLabels
