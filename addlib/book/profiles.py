"""Profiles: one YAML file of parameters for the whole book, with overrides for single chapters."""

from __future__ import annotations

import re

import yaml

from addlib.book import chapter
from addlib.book.project import BookError, Project


def load(project: Project, profile: str) -> dict:
    """The profile's ``common`` and ``chapters`` maps, checked for form and for chapters that do not exist."""
    folder = project.book / "profiles"
    path = folder / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise BookError(f"no profile {profile!r}; there are {known} (book/profiles)")
    content = yaml.safe_load(path.read_text()) or {}
    if not isinstance(content, dict) or set(content) - {"common", "chapters"}:
        raise BookError(f"profiles/{path.name}: expected the keys 'common' and 'chapters' only, found {list(content)}")
    content = {"common": content.get("common") or {}, "chapters": content.get("chapters") or {}}
    unknown = set(content["chapters"]) - {source.stem for source in project.chapters()}
    if unknown:
        raise BookError(f"profiles/{path.name} overrides chapters that do not exist: {', '.join(sorted(unknown))}")
    return content


def chapter_parameters(project: Project, profile: str, source) -> dict[str, object]:
    """Parameters that ``profile`` passes to the chapter ``source``: only those that the chapter declares."""
    content = load(project, profile)
    declared = chapter.parameters(chapter.read(source), source.stem)
    overrides = content["chapters"].get(source.stem) or {}
    undeclared = sorted(set(overrides) - set(declared))
    if undeclared:
        raise BookError(
            f"profiles/{profile}.yaml gives {source.stem} a value for {', '.join(undeclared)}, which its parameters "
            f"cell does not declare; it declares {', '.join(declared) or 'nothing'}"
        )
    values = {**content["common"], **overrides}
    return {
        name: _as_declared(values[name], default, f"profiles/{profile}.yaml: {name} of {source.stem}")
        for name, default in declared.items()
        if name in values
    }


def _as_declared(value, default, where: str):
    """``value`` in the type of the chapter's default, so that YAML's ``1e-3`` cannot arrive as a string."""
    if default is None or value is None or type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        hint = "; YAML reads this as text, write it with a dot and a sign, as in 1.0e-3"
    raise BookError(
        f"{where} is {value!r} ({type(value).__name__}), the chapter declares {default!r} "
        f"({type(default).__name__}){hint}"
    )
