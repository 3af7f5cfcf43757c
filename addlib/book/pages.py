"""What publish adds to the pages: the banner of a chapter, and the status page."""

from __future__ import annotations

from html import escape

from nbformat import NotebookNode

from addlib.book import chapter

SMOKE = "<strong>Smoke run.</strong> These numbers only show that the code runs; they are no results."


def banner(notebook: NotebookNode) -> str:
    """One HTML block: how the numbers on the page were made. HTML, so that the search does not find it everywhere."""
    facts = notebook.metadata["addlib"]
    smoke = facts["profile"] == "smoke"
    items = {
        "Profile": facts["profile"],
        "Device": facts["device"],
        "Commit": facts["commit"],
        "Data": facts["data"] or "none",
        "Run": f"{facts['seconds']:.0f} s on {facts['date']}",
    }
    more = {"Versions": " · ".join(f"{name} {number}" for name, number in facts["versions"].items())}
    values = chapter.injected(notebook)
    if values is not None:
        lines = [line for line in values.source.splitlines() if line.strip() and not line.startswith("#")]
        more["Parameters"] = " · ".join(lines)
    note = f"<p>{SMOKE}</p>" if smoke else ""
    # No blank line inside: it would end the HTML block.
    return (
        f'<div class="provenance{" smoke" if smoke else ""}" role="note">{note}<dl>{_rows(items)}</dl>'
        f"<details><summary>Versions and parameters</summary><dl>{_rows(more)}</dl></details></div>"
    )


def _rows(items: dict[str, object]) -> str:
    return "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in items.items())


def with_banner(notebook: NotebookNode) -> None:
    """Put the banner below the first heading of level one, splitting its cell there."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        lines = cell.source.splitlines()
        heading = next((i for i, line in enumerate(lines) if line.startswith("# ")), None)
        if heading is None:
            continue
        rest = "\n".join(lines[heading + 1 :]).strip("\n")
        cell.source = "\n".join([*lines[: heading + 1], "", banner(notebook), "", rest]).rstrip("\n")
        return
    raise ValueError("the notebook has no heading of level one ('# Title') to put the banner under")


def status(rows: list[tuple[str, NotebookNode]], profile: str) -> str:
    """The status page: every chapter with result, time and provenance. ``rows`` are (stem, executed notebook)."""
    text = ["# Status of this build", ""]
    text += [
        "Written when the site was built; every line comes from the record that the run of a chapter left behind.",
        "",
    ]
    if profile == "smoke":
        text += [":::{warning}", "Profile `smoke`: the numbers only show that the code runs.", ":::", ""]
    text += [
        "| Chapter | Result | Run time | Profile | Device | Date | Code cells |",
        "| --- | --- | ---: | --- | --- | --- | ---: |",
    ]
    for stem, notebook in rows:
        facts = notebook.metadata["addlib"]
        text.append(
            f"| {{doc}}`{stem}` | passed | {facts['seconds']:.0f} s | {facts['profile']} | {_cell(facts['device'])} "
            f"| {facts['date']} | {len(chapter.code_cells(notebook))} |"
        )
    total = sum(notebook.metadata["addlib"]["seconds"] for _, notebook in rows)
    text += ["", f"All chapters together: {total:.0f} s.", "", "## Versions and data", ""]
    text += ["| Chapters | Commit | Data | Versions |", "| --- | --- | --- | --- |"]
    groups: dict[tuple, list[str]] = {}
    for stem, notebook in rows:
        facts = notebook.metadata["addlib"]
        made = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        groups.setdefault((facts["commit"], facts["data"] or "none", made), []).append(stem)
    for (commit, data, made), stems in groups.items():
        text.append(f"| {', '.join(stems)} | `{commit}` | `{data}` | {made} |")
    return "\n".join(text) + "\n"


def _cell(value: str) -> str:
    """Text that cannot break a table row."""
    return value.replace("|", "/")
