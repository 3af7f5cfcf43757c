"""Where a number comes from: code, device, commit, versions, day."""

from __future__ import annotations

import ast
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
# Name on the page, and the distributions that may provide it.
DISTRIBUTIONS = {
    "torch": ["torch"],
    "numpy": ["numpy"],
    "opencv": ["opencv-python-headless", "opencv-python"],
    "av": ["av"],
    "dlib": ["dlib-bin", "dlib"],
}


def digest(settings: object) -> str:
    """Twelve hexadecimal digits of anything that JSON holds; the order of keys does not count, a tuple is a list."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def code_hash(*modules: str) -> str:
    """Twelve hexadecimal digits of the code of addlib modules and of all addlib modules that they import.

    Comments, docstrings and layout do not count. Nothing is imported or run: import statements are read, wherever in a
    file they stand. A package that is only a parent of an imported module counts with what it imports at its top.

    Args:
        modules: full names, such as "addlib.training".

    Raises:
        ValueError: for a name that is no module of addlib.
    """
    return digest([(name, _read(_path(name))[0]) for name in modules_behind(*modules)])


def modules_behind(*modules: str) -> list[str]:
    """The names of the modules that ``code_hash`` covers, sorted."""
    for name in modules:
        if _path(name) is None:
            raise ValueError(f"{name!r} is no module of {PACKAGE.name}; give full names such as '{PACKAGE.name}.losses'")
    # A parent package runs when a module below it is imported, but nobody calls its functions.
    waiting, found = [(name, True) for name in modules], set()
    while waiting:
        entry = waiting.pop()
        if entry in found or (entry[0], True) in found:
            continue
        found.add(entry)
        name, called = entry
        _, at_import, anywhere = _read(_path(name))
        waiting += [(other, True) for other in (anywhere if called else at_import)]
        if "." in name:
            waiting.append((name.rpartition(".")[0], False))
    return sorted({name for name, _ in found})


def imported_modules(code: str, package: str = "") -> list[str]:
    """The addlib modules that Python code imports, for instance that of a notebook's cells; sorted.

    Args:
        code: Python source, without a notebook's magic commands.
        package: of the code, to which relative imports refer.
    """
    return sorted(set(_imports(ast.walk(ast.parse(code)), package)))


def _path(name: str) -> Path | None:
    """The file of an addlib module, or None if it is not one."""
    first, *parts = name.split(".")
    place = PACKAGE.joinpath(*parts)
    candidates = [place / "__init__.py"] + ([place.with_suffix(".py")] if parts else [])
    return next((path for path in candidates if first == PACKAGE.name and path.is_file()), None)


def _read(path: Path) -> tuple[str, list[str], list[str]]:
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=512)
def _parsed(path: Path, changed: int, size: int) -> tuple[str, list[str], list[str]]:
    """Hash of a module's code, the addlib modules that it imports when it is imported, and all that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join([PACKAGE.name, *path.parent.relative_to(PACKAGE).parts])
    imports = [sorted(set(_imports(nodes, package))) for nodes in (_outside_functions(tree), ast.walk(tree))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), *imports


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def _imports(nodes, package: str) -> Iterator[str]:
    """Names of the addlib modules in the import statements among nodes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _path(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            if _path(base):
                # What a package gives may be a module of it or a name in it.
                yield from (name if _path(name := f"{base}.{alias.name}") else base for alias in node.names)


def record(root: Path, accelerator: str = "auto") -> dict[str, object]:
    """Device, commit, date (UTC, ISO) and versions: what is the same for all that one run computes."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"device": device(accelerator), "commit": commit(root), "date": today, "versions": versions()}


def device(accelerator: str = "auto") -> str:
    """Name of the GPU that torch uses, or the model of the CPU if there is none or ``accelerator`` is "cpu"."""
    try:
        import torch

        if accelerator != "cpu" and torch.cuda.is_available():
            return torch.cuda.get_device_name()
    except ImportError:
        pass
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit(root: Path) -> str:
    """Short commit, with -dirty if tracked or new files differ from it; 'no commit' outside git.

    Results do not count: a sweep adds its own rows while it runs, and no code reads them back into a number.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!data/results")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name, distributions in DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found
