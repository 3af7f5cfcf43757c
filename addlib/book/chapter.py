"""Reading a chapter: its cells, its parameters, its title."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from addlib.book.project import BookError

INJECTED = "injected-parameters"  # papermill's tag
# Tag of the cell that only acts where somebody opens the chapter: it changes no number of a page, and is not shown on it.
BY_HAND = "by-hand"


def read(path: Path) -> NotebookNode:
    """The notebook at ``path``; a broken one is an error that names it."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises half a dozen kinds
        raise BookError(f"{path.name} is not a valid notebook: {str(error).splitlines()[0]}") from error
    ids = [cell.get("id") for cell in notebook.cells]
    repeated = sorted({str(i) for i in ids if i is None or ids.count(i) > 1})
    if repeated:
        raise BookError(f"{path.name}: every cell needs an id of its own, found none or twice: {', '.join(repeated)}")
    return notebook


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The chapter's own code cells, without the one that papermill injects; messages count them from 1."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and INJECTED not in tags(cell)]


def injected(notebook: NotebookNode) -> NotebookNode | None:
    """The cell with the parameters of the profile, which papermill puts below the chapter's own."""
    return next((cell for cell in notebook.cells if INJECTED in tags(cell)), None)


def parameters(notebook: NotebookNode, name: str) -> dict[str, object]:
    """Names and values that the one cell tagged ``parameters`` declares; values must be literals."""
    cells = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise BookError(f"{name}: expected one code cell tagged 'parameters', found {len(cells)}")
    declared = {}
    for statement in ast.parse(cells[0].source).body:
        try:
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            declared[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError, TypeError) as error:
            raise BookError(
                f"{name}: line {statement.lineno} of the parameters cell is not 'name = literal value': "
                f"{ast.unparse(statement)}"
            ) from error
    return declared


def title(notebook: NotebookNode, default: str) -> str:
    """Text of the first heading of level one."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return default
