"""Where a number comes from: code, device, commit, versions, day."""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parent
# Name on the page, and a distribution that may provide it; the last one installed counts.
DISTRIBUTIONS = (
    ("torch", "torch"), ("numpy", "numpy"), ("opencv", "opencv-python"), ("opencv", "opencv-python-headless"),
    ("av", "av"), ("dlib", "dlib"), ("dlib", "dlib-bin"),
)  # fmt: skip
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def digest(settings: object) -> str:
    """Twelve hexadecimal digits of anything that JSON holds; the order of keys does not count, a tuple is a list."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def code_hash(*modules: str) -> str:
    """Twelve hexadecimal digits of the code of addlib modules, such as "addlib.training", and of all that they import.

    Comments, docstrings and layout do not count. Import statements are read, wherever they stand; nothing is run.
    """
    return digest([(name, _read(name)[0]) for name in modules_behind(*modules)])


def modules_behind(*modules: str) -> list[str]:
    """The names of the addlib modules that ``code_hash`` covers, sorted."""
    if unknown := [name for name in modules if _path(name) is None]:
        raise ValueError(f"{unknown[0]!r} is no module of addlib; give full names such as 'addlib.losses'")
    waiting, found = [(name, True) for name in modules], set()
    while waiting:
        # A parent package runs when a module below it is imported, but nobody calls its functions.
        name, called = entry = waiting.pop()
        if entry not in found:
            found.add(entry)
            waiting += [(other, True) for other in _read(name)[1 + called]]
            waiting += [(name.rpartition(".")[0], False)] if "." in name else []
    return sorted({name for name, _ in found})


def imported_modules(code: str) -> list[str]:
    """The addlib modules that Python code imports, such as that of a notebook's cells; sorted."""
    return sorted(set(_imports(ast.parse(code), "")))


def _path(name: str) -> Path | None:
    """The file of an addlib module, or None if it is not one."""
    first, *parts = name.split(".")
    files = PACKAGE.joinpath(*parts, "__init__.py"), PACKAGE.joinpath(*parts).with_suffix(".py")
    return next((path for path in files if first == "addlib" and path.is_file()), None)


def _read(name: str) -> tuple[str, set[str], set[str]]:
    path = _path(name)
    return _parsed(path, path.stat().st_mtime_ns, path.stat().st_size)


@functools.lru_cache(maxsize=512)
def _parsed(path: Path, changed: int, size: int) -> tuple[str, set[str], set[str]]:
    """Hash of a module's code, the addlib modules that it imports when it is imported, and all that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(["addlib", *path.parent.relative_to(PACKAGE).parts])
    imports = [set(_imports(tree, package, called)) for called in (False, True)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), *imports


def _imports(node: ast.AST, package: str, called: bool = True) -> Iterator[str]:
    """Names of the addlib modules in the import statements below a node, in those of its functions too if they are called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if _path(alias.name))
        elif isinstance(child, ast.ImportFrom):
            parents = package.split(".")[: 1 - child.level or None] if child.level else []
            base = ".".join([*parents, *filter(None, [child.module])])
            if _path(base):  # what a package gives may be a module of it or a name in it
                yield from (name if _path(name := f"{base}.{alias.name}") else base for alias in child.names)
        elif called or not isinstance(child, FUNCTIONS):
            yield from _imports(child, package, called)


def record(root: Path, accelerator: str = "auto") -> dict[str, object]:
    """Device, commit, date (UTC, ISO) and versions: what is the same for all that one run computes."""
    date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return {"device": device(accelerator), "commit": commit(root), "date": date, "versions": versions()}


def device(accelerator: str = "auto") -> str:
    """Name of the GPU that torch uses, or the model of the CPU if there is none or ``accelerator`` is "cpu"."""
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError, IndexError):
        return Path("/proc/cpuinfo").read_text().partition("model name")[2].splitlines()[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit(root: Path) -> str:
    """Short commit, with -dirty if files other than rows of results differ from it; 'no commit' outside git."""
    git = functools.partial(subprocess.check_output, text=True, stderr=subprocess.DEVNULL, cwd=root)
    try:
        # A sweep adds its own rows while it runs, and no code reads them back into a number.
        changed = git(["git", "status", "--porcelain", "--", ".", ":!data/results"])
        return git(["git", "rev-parse", "--short=12", "HEAD"]).strip() + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name, distribution in DISTRIBUTIONS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(distribution)
    return found
