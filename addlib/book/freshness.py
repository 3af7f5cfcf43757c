"""When a chapter must run again: a key over everything that its numbers can depend on.

The key is the sha256 of the chapter's code cells, its parameters and the files that they name, the sources of those
addlib modules that it can reach, requirements.lock, and the hash of the data that it reads. Prose and cell metadata are
left out, they are merged into the page at publish; so is the cell that only acts where a chapter is opened by hand.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from functools import cached_property
from pathlib import Path

from addlib.book import chapter, profiles
from addlib.book.project import BookError, Project, child_environment

PACKAGE = "addlib"

# grimp looks the package up on the path, so a process of its own reads this project's copy, not the imported one.
_GRAPH = f"""
import grimp, json
graph = grimp.build_graph("{PACKAGE}", cache_dir=None)
print(json.dumps({{m: sorted(graph.find_modules_directly_imported_by(m)) for m in sorted(graph.modules)}}))
"""


class Freshness:
    """Keys of the chapters of one project under one profile; the import graph is read once."""

    def __init__(self, project: Project, profile: str):
        self.project, self.profile = project, profile
        self._data_hashes: dict[Path, str] = {}

    @cached_property
    def graph(self) -> dict[str, list[str]]:
        """Each addlib module with the addlib modules that it imports directly."""
        if not (self.project.root / PACKAGE / "__init__.py").is_file():
            return {}
        done = subprocess.run(
            [sys.executable, "-c", _GRAPH],
            cwd=self.project.root,
            env=child_environment(self.project),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise BookError(f"cannot read the imports of {PACKAGE}: {reason[0]}")
        return json.loads(done.stdout)

    def reach(self, source: Path) -> list[str]:
        """The addlib modules that the chapter's code can load, directly or through others."""
        todo = set()
        for number, cell in self._cells(source):
            try:
                todo |= {name for name in imports(cell.source) if name.split(".")[0] == PACKAGE}
            except SyntaxError as error:
                raise BookError(f"{source.stem}, code cell {number} is not valid Python: {error}") from error
        reached: set[str] = set()
        while todo:
            name = todo.pop()
            # Importing a.b.c runs a and a.b as well; 'from a import x' may mean a module or a name of a.
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                module = ".".join(parts[:end])
                if module in self.graph and module not in reached:
                    reached.add(module)
                    todo.update(self.graph[module])
        return sorted(reached)

    def parameters(self, source: Path) -> dict[str, object]:
        return profiles.chapter_parameters(self.project, self.profile, source)

    def data_hash(self, source: Path) -> str | None:
        """Hash of the prepared crops that the chapter reads; None for a chapter that reads no data."""
        values = {**chapter.parameters(chapter.read(source), source.stem), **self.parameters(source)}
        if not {"crops", "videos"} & set(values):
            return None
        # The crops' manifest holds the hashes of the videos too, so it stands for both.
        folder = values.get("crops") or profiles.load(self.project, self.profile)["common"].get("crops")
        if not folder:
            raise BookError(f"{source.stem} reads videos, but profile {self.profile} names no 'crops' folder to hash")
        path = (self.project.book / str(folder)).resolve()
        if path not in self._data_hashes:
            from addlib import faceforensics

            if not (path / "manifest.csv").is_file():
                raise BookError(
                    f"{source.stem} reads {folder} (seen from book/), which holds no manifest.csv; "
                    "run 'make data', or 'addlib prepare' for your own videos"
                )
            self._data_hashes[path] = faceforensics.data_hash(path)
        return self._data_hashes[path]

    def key(self, source: Path) -> str:
        """The chapter's key, 64 hexadecimal digits."""
        digest = hashlib.sha256()

        def add(label: str, content: str | bytes) -> None:
            # Lengths keep two different lists of parts from running into the same bytes.
            content = content.encode() if isinstance(content, str) else content
            digest.update(f"{label} {len(content)}\n".encode() + content)

        for _, cell in self._cells(source):
            add(f"cell {cell.id}", cell.source)
        add("parameters", json.dumps(self.parameters(source), sort_keys=True, default=repr))
        for name, path in self._files(source).items():
            add(f"file {name}", path.read_bytes())
        for module in self.reach(source):
            add(f"module {module}", self._module_file(module).read_bytes())
        lock = self.project.root / "requirements.lock"
        add("lock", lock.read_bytes() if lock.is_file() else b"")
        add("data", self.data_hash(source) or "")
        return digest.hexdigest()

    def _cells(self, source: Path):
        """Number and cell of the code that makes the chapter's numbers."""
        for number, cell in enumerate(chapter.code_cells(chapter.read(source)), 1):
            if chapter.BY_HAND not in chapter.tags(cell):
                yield number, cell

    def _files(self, source: Path) -> dict[str, Path]:
        """Files that the chapter is told to read by a parameter, such as a table of results."""
        values = {**chapter.parameters(chapter.read(source), source.stem), **self.parameters(source)}
        paths = {name: self.project.book / value for name, value in sorted(values.items()) if isinstance(value, str)}
        return {name: path for name, path in paths.items() if path.is_file()}

    def state(self, source: Path) -> str:
        """'fresh', 'stale' (made from something else), 'failed' or 'missing'."""
        folder = self.project.executed(self.profile)
        executed = folder / source.name
        if not executed.is_file():
            return "failed" if (folder / f"{source.stem}.failed.ipynb").is_file() else "missing"
        made_from = chapter.read(executed).metadata.get("addlib", {}).get("key")
        return "fresh" if made_from == self.key(source) else "stale"

    def _module_file(self, module: str) -> Path:
        base = self.project.root.joinpath(*module.split("."))
        return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def imports(code: str) -> set[str]:
    """Dotted names that a cell imports; 'from a import b' gives a.b, since b may be a module."""
    from IPython.core.inputtransformer2 import TransformerManager

    names = set()
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(code))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names
