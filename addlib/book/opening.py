"""A chapter that is opened by hand chooses its profile itself: ``reader`` where there is a GPU, ``smoke`` elsewhere."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from addlib.book import chapter, profiles
from addlib.book.project import locate

AUTO = "auto"  # what a chapter declares; papermill replaces it by the name of a profile
VARIABLE = "ADDLIB_PROFILE"


def fill_in(name: str, namespace: MutableMapping, root: str | Path | None = None) -> None:
    """Replace the parameters of a chapter by those of the profile that fits this machine, and say which it is.

    name: of the chapter, without ``.ipynb``. namespace: its variables, ``globals()``; ``profile`` is among them. Does nothing
    unless ``profile`` is "auto". The profile is the one that the environment variable ADDLIB_PROFILE names, else ``reader`` with
    a CUDA device and ``smoke`` without. A parameter that has another value than the chapter declares keeps it: somebody
    has set it. Raises BookError for a profile or a chapter that does not exist.
    """
    if namespace["profile"] != AUTO:
        return
    project = locate(root)
    (source,) = project.chapters([name])
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        import torch

        found = torch.cuda.is_available()
        chosen = "reader" if found else "smoke"
        print(f"profile {chosen}: {'a GPU is here' if found else 'no GPU is here'}; {VARIABLE} names another")
    declared = chapter.parameters(chapter.read(source), source.stem)
    values = profiles.chapter_parameters(project, chosen, source)
    namespace.update({key: value for key, value in values.items() if namespace[key] == declared[key]})
