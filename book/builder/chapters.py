"""A chapter under a profile: its parameters, and whether it must run again."""

import ast
import contextlib
import functools
import hashlib
import os
import re
from collections.abc import MutableMapping, Set
from pathlib import Path

from addlib import provenance
from builder.project import BookError, Project, code_cells, read, tags

VARIABLE = "ADDLIB_PROFILE"
BY_HAND = "by-hand"  # tag of the cell that calls fill_in; it changes no number of a page
READER = "addlib.results"  # the module through which a chapter reads rows and claims without naming their files


class Chapter:
    """One chapter under one profile; what is wrong with the form of either raises BookError.

    declared, given: parameters of the chapter, and those of them that the profile sets. data: hash of the crops that it
    reads, or None. made: the executed copy, or None. key: stands for all that the numbers of the chapter can depend on;
    prose and metadata are merged into the page at publish.
    """

    def __init__(self, project: Project, profile: str, source: Path):
        self.source, self.name, self.notebook = source, source.stem, read(source)
        self.declared, self.given = parameters(project, profile, source)
        self.data = self._data(project, profile)
        self.key = self._key(project)
        self.executed = project.build / "executed" / profile / source.name
        self.made = read(self.executed) if self.executed.is_file() else None

    def _data(self, project: Project, profile: str) -> str | None:
        values = {**self.declared, **self.given}
        if not {"crops", "videos"} & set(values):
            return None
        # The crops' manifest holds the hashes of the videos too, so it stands for both.
        folder = values.get("crops") or _profile(project, profile)[0].get("crops", "")
        manifest = (project.book / folder / "manifest.csv").resolve()
        if not manifest.is_file():
            remedy = "run 'make data', or 'addlib prepare' for your own videos"
            raise BookError(f"{self.name} reads {folder} (seen from book/), which holds no manifest.csv; {remedy}")
        return _data_hash(manifest.parent, manifest.stat().st_mtime_ns)

    def _key(self, project: Project) -> str:
        """Hash of code, parameters, files, addlib modules behind the imports, locked packages, data, and of how it is run."""
        cells = [(cell["id"], cell["source"]) for cell in code_cells(self.notebook) if BY_HAND not in tags(cell)]
        code, values = "\n".join(source for _, source in cells), repr([self.declared, self.given])
        tree = _parse(f"{code}\n{values}", self.name)
        nodes = [getattr(node, "value", None) for node in ast.walk(tree)]
        # Whatever text of code or parameters is the path of a file of the project, the chapter may read.
        texts = {text for text in nodes if isinstance(text, str) and len(text) < 200 and "\0" not in text}
        files = {path for text in texts if (path := (project.book / text).resolve()).is_relative_to(project.root)}
        own = own_modules(project.book, tree)
        modules = provenance.imported_modules("\n".join([ast.unparse(tree), *(path.read_text("utf-8") for path in sorted(own))]))
        files |= own
        if READER in provenance.modules_behind(*modules):
            files |= {path for kind in ("claims.yml", "results/**/*", "paper/*") for path in project.root.glob(f"data/{kind}")}
        files |= {project.root / "requirements.lock", *map(Path(__file__).with_name, ("execute.py", "softened.py", "warm.py"))}
        hashes = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file())
        parts = [cells, values, hashes, provenance.code_hash(*modules), self.data]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def state(self) -> str:
        """'fresh', 'stale' (made from something else), 'failed' or 'missing'."""
        if self.made is None:
            return "failed" if self.executed.with_suffix(".failed.ipynb").is_file() else "missing"
        return "fresh" if self.made["metadata"].get("addlib", {}).get("key") == self.key else "stale"

    @property
    def seconds(self) -> float:
        """What its last run took; before the first a guess, longer if it trains."""
        made = self.made["metadata"].get("addlib", {}) if self.made else {}
        return made.get("seconds", 45 if "epochs" in self.declared else 20)


def chapters(project: Project, profile: str, names: list[str] | None = None) -> list[Chapter]:
    """The chapters as they stand."""
    return [Chapter(project, profile, source) for source in project.sources(names)]


def parameters(project: Project, profile: str, source: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Parameters that a chapter declares, in its one cell tagged so; and those of them that a profile sets."""
    cells = [cell for cell in code_cells(read(source)) if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise BookError(f"{source.stem}: expected one code cell tagged 'parameters', found {len(cells)}")
    declared = {}
    for line in ast.parse(cells[0]["source"]).body:
        try:
            declared[line.targets[0].id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError) as error:
            raise BookError(
                f"{source.stem}: line {line.lineno} of the parameters cell is not 'name = literal value': {ast.unparse(line)}"
            ) from error
    common, overrides = _profile(project, profile)
    own = overrides.get(source.stem) or {}
    given = {name: value for name, value in {**common, **own}.items() if name in {*declared, *own}}
    for name, value in given.items():
        default = declared.get(name, f"no {name}")
        if type(default) is float and type(value) is int:
            given[name] = float(value)
        elif name not in declared or None not in (value, default) and type(value) is not type(default):
            raise BookError(
                f"profiles/{profile}.yaml: {name} of {source.stem} is {value!r}, the chapter declares {default!r}; "
                f"it knows {', '.join(declared)}, and YAML reads 1e-3 as text: write 1.0e-3"
            )
    return declared, given


def own_modules(folder: Path, code: ast.Module, known: Set[Path] = frozenset()) -> set[Path]:
    """The files of the modules beside the chapters that code imports, directly or not, such as book/ledger."""
    imports = [node for node in ast.walk(code) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", None) for node in imports}
    tops = {name.partition(".")[0] for name in names if name}
    new = {path for top in tops for path in (*folder.glob(f"{top}.py"), *folder.glob(f"{top}/**/*.py"))} - known
    return new.union(*(own_modules(folder, ast.parse(path.read_text("utf-8")), known | new) for path in new))


def fill_in(name: str, namespace: MutableMapping, root: str | Path | None = None) -> None:
    """Replace the parameters of a chapter that was opened by hand by those that fit this machine, and say which.

    Does nothing unless the chapter's ``profile`` is "auto". The profile is then the one that the environment variable
    ADDLIB_PROFILE names, else ``reader`` with a CUDA device and ``smoke`` without; a parameter that somebody has set keeps
    its value. ``name`` is that of the chapter, without ``.ipynb``; ``namespace`` its variables, ``globals()``.
    """
    if namespace["profile"] != "auto":
        return
    project, chosen = Project(root), os.environ.get(VARIABLE)
    if not chosen:
        import torch

        found = torch.cuda.is_available()
        chosen = "reader" if found else "smoke"
        print(f"profile {chosen}: {'a GPU is here' if found else 'no GPU is here'}; {VARIABLE} names another")
    declared, given = parameters(project, chosen, *project.sources([name]))
    namespace.update({key: value for key, value in given.items() if namespace[key] == declared[key]})


def time_limit(project: Project, profile: str) -> int:
    """Seconds that one cell may take under a profile: what its file says, else 600."""
    return _read_profile(project, profile).get("timeout", 600)


def _read_profile(project: Project, profile: str) -> dict:
    import yaml

    path = project.book / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml")))
        raise BookError(f"no profile {profile!r}; there are {known} (book/profiles)")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _profile(project: Project, profile: str) -> tuple[dict, dict]:
    """Parameters for all chapters, and those for single ones."""
    content = _read_profile(project, profile)
    overrides = content.get("chapters") or {}
    if unknown := set(overrides) - {source.stem for source in project.sources()}:
        raise BookError(f"profiles/{profile}.yaml overrides chapters that do not exist: {', '.join(sorted(unknown))}")
    return content.get("common") or {}, overrides


def _parse(code: str, name: str) -> ast.Module:
    for attempt in (code, re.sub(r"^(\s*)[%!].*", r"\1pass", code, flags=re.M)):  # the second without a notebook's commands
        with contextlib.suppress(SyntaxError):
            return ast.parse(attempt)
    raise BookError(f"{name} holds code that is not valid Python")


@functools.cache
def _data_hash(folder: Path, changed: int) -> str:
    from addlib import faceforensics

    return faceforensics.data_hash(folder)
