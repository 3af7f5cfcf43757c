"""Alt text: what somebody who cannot see an image is told about it."""

from __future__ import annotations

import re

from nbformat import NotebookNode

from addlib.book import chapter

SHORTEST = 20  # characters; less than this names a picture but does not describe it
_MARKDOWN_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\([^)]+\)")
_DIRECTIVE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?:image|figure)\}.*?^(?P=fence)\s*$", re.S | re.M)


def problems(notebook: NotebookNode, name: str) -> list[str]:
    """Every image of an executed chapter whose alt text is missing or too short, named by chapter and cell."""
    found = []
    for number, cell in enumerate(chapter.code_cells(notebook), 1):
        images = sum(
            any(kind.startswith("image/") for kind in output.get("data", {})) for output in cell.get("outputs", [])
        )
        if not images:
            continue
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt") or ""
        where = f"{name}, code cell {number} ({cell.id})"
        if len(alt.strip()) < SHORTEST:
            found.append(
                f"{where}: its image has the alt text {alt!r}; say what is seen, in {SHORTEST} characters or more, "
                "under mystnb.image.alt in the cell's metadata"
            )
        if images > 1:
            found.append(f"{where}: {images} images share one alt text; show one figure per cell")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found += [f"{name}, cell {cell.id}: {problem}" for problem in markdown_problems(cell.source)]
    return found


def markdown_problems(text: str) -> list[str]:
    """Images of a MyST text whose alt text is missing or too short."""
    found = []
    for match in _MARKDOWN_IMAGE.finditer(text):
        if len(match["alt"].strip()) < SHORTEST:
            found.append(f"{match.group()} needs alt text of {SHORTEST} characters or more")
    for match in _DIRECTIVE.finditer(text):
        alt = re.search(r"^:alt:(.*)$", match.group(), re.M)
        if alt is None or len(alt[1].strip()) < SHORTEST:
            found.append(f"{match.group().splitlines()[0]} needs ':alt:' of {SHORTEST} characters or more")
    return found
