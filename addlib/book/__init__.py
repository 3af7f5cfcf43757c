"""Execute, validate, refresh and publish the book.

* ``execute``: runs stale chapters with papermill into book/_build/executed/<profile>
* ``validate``: runs them again with nbval and compares the text with tests/book/expected
* ``refresh``: writes those expected texts from an executed copy
* ``publish``: stages the executed copies and builds the site into book/_build/html
* ``pdf``: prints the site into one file
* ``archive``: packs the site, to be read without a network
* ``fill_in``: gives a chapter that was opened by hand the profile of its machine

Each of the first four returns True if everything that was asked for was done, prints one line per chapter, and raises
:class:`BookError` where it cannot start.
"""

from importlib import import_module

# Imported when asked for: a chapter that needs one of them, for a sweep say, does not depend on how pages are built.
_MODULES = {
    "BookError": "project",
    "archive": "takeaway",
    "execute": "running",
    "fill_in": "opening",
    "pdf": "takeaway",
    "publish": "publishing",
    "refresh": "expected",
    "validate": "validating",
}

__all__ = ["BookError", "archive", "execute", "fill_in", "pdf", "publish", "refresh", "validate"]


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
