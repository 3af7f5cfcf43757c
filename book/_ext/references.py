"""Sphinx extension: the reference without what base classes say, the bibliography with author and year as labels."""

from string import ascii_lowercase

import pybtex.plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle

# What a base class says of its own members: a named tuple of its fields, a module of its forward.
NOISE = ("Alias for field number", "Should be overridden by all subclasses")


def setup(app) -> dict:
    pybtex.plugin.register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    app.connect("autodoc-skip-member", _skip_noise)
    app.connect("autodoc-process-signature", _own_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _skip_noise(app, what, name, obj, skip, options) -> bool | None:
    return True if (getattr(obj, "__doc__", None) or "").startswith(NOISE) else None


def _own_signature(app, what, name, obj, options, signature, returns):
    """A class without an ``__init__`` of its own takes nothing; its base's catch-all says the opposite."""
    return ("()", returns) if what == "class" and signature == "(*args, **kwargs)" else None


class AuthorYearLabels(BaseLabelStyle):
    """Demšar, 2006; two of the same name and year get a letter."""

    def format_labels(self, entries):
        plain = [self._label(entry) for entry in entries]
        for place, label in enumerate(plain):
            same = [other for other, each in enumerate(plain) if each == label]
            yield label + (ascii_lowercase[same.index(place)] if len(same) > 1 else "")

    @staticmethod
    def _label(entry) -> str:
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [str(Text.from_latex(" ".join(each.prelast_names + each.last_names))) for each in people]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        return f"{who or entry.key}, {entry.fields.get('year', 'n.d.')}"


class AuthorYearStyle(Style):
    default_label_style = AuthorYearLabels
