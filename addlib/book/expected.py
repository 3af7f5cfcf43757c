"""Expected text of the chapters: small JSON files that a reader can review and nbval can compare with."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_output

from addlib.book import chapter
from addlib.book.freshness import Freshness
from addlib.book.project import BookError, Project, locate

# nbval neither runs nor compares these.
IGNORED = {"nbval-ignore-output", "nbval-skip"}


def refresh(profile: str = "smoke", names: list[str] | None = None, root: str | Path | None = None) -> bool:
    """Write tests/book/expected/NAME.json from each chapter's executed copy, which must be fresh."""
    project = locate(root)
    check_profile(profile)
    freshness = Freshness(project, profile)
    sources = project.chapters(names)
    states = {source.stem: freshness.state(source) for source in sources}
    bad = [f"{name} ({state})" for name, state in states.items() if state != "fresh"]
    if bad:
        raise BookError(f"not executed as they stand: {', '.join(bad)}; run 'addlib book execute --profile {profile}'")
    project.expected.mkdir(parents=True, exist_ok=True)
    patterns = sanitizers(project)
    for source in sources:
        executed = chapter.read(project.executed(profile) / source.name)
        content = {"data": freshness.data_hash(source), "cells": texts(executed, patterns)}
        path = project.expected / f"{source.stem}.json"
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        changed = not path.is_file() or path.read_text(encoding="utf-8") != text
        path.write_text(text, encoding="utf-8")
        print(f"{'wrote' if changed else 'same '}  {path.relative_to(project.root)}")
    if not names:
        for path in project.expected.glob("*.json"):
            if path.stem not in states:
                path.unlink()
                print(f"removed {path.relative_to(project.root)}: no such chapter")
    return True


def check_profile(profile: str) -> None:
    if profile != "smoke":
        raise BookError(f"expected outputs are those of profile smoke, got {profile!r}")


def sanitizers(project: Project) -> dict[str, str]:
    """The replacements of nbval.cfg: applied here too, so that a new time or address is no difference to review."""
    from nbval.plugin import get_sanitize_patterns

    path = project.root / "tests" / "book" / "nbval.cfg"
    return dict(get_sanitize_patterns(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def texts(executed: NotebookNode, patterns: dict[str, str]) -> dict[str, list]:
    """Text outputs of an executed notebook by cell id; images are dropped, cells that nbval ignores are left out."""
    cells = {}
    for cell in chapter.code_cells(executed):
        if IGNORED & set(chapter.tags(cell)):
            continue
        outputs = [kept for output in cell.outputs if (kept := _text(output, patterns))]
        if outputs:
            cells[cell.id] = outputs
    return cells


def _text(output: NotebookNode, patterns: dict[str, str]) -> dict | None:
    """One output as {kind: lines}: 'stdout', 'stderr', or the text/* kinds of a display."""
    if output.output_type == "stream":
        return {output.name: _lines(output.text, patterns)}
    # nbval compares every kind but pictures, so any text that a cell shows must be kept.
    kept = {kind: value for kind, value in output.get("data", {}).items() if kind.startswith("text/")}
    return {kind: _lines("".join(value), patterns) for kind, value in kept.items()} or None


def _lines(text: str, patterns: dict[str, str]) -> list[str]:
    for pattern, replacement in patterns.items():
        text = re.sub(pattern, replacement, text)
    return text.splitlines(keepends=True)


def load(project: Project, source: Path) -> dict:
    path = project.expected / f"{source.stem}.json"
    if not path.is_file():
        raise BookError(
            f"{source.stem} has no expected outputs ({path.relative_to(project.root)}); "
            "run 'addlib book execute', then 'addlib book refresh', and read what it wrote"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def as_outputs(kept: list[dict]) -> list[NotebookNode]:
    """Notebook outputs for the kept texts of one cell."""
    outputs = []
    for entry in kept:
        stream = next((name for name in ("stdout", "stderr") if name in entry), None)
        if stream:
            outputs.append(new_output("stream", name=stream, text="".join(entry[stream])))
        else:
            data = {kind: "".join(lines) for kind, lines in entry.items()}
            outputs.append(new_output("display_data", data=data))
    return outputs
