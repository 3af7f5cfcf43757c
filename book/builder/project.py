"""One project: its folders, its notebooks as JSON, and the environment in which they run."""

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from addlib.files import InUseError, locked

INJECTED = "injected-parameters"  # papermill's tag
# What a shell, a scheduler or another project leaves behind, and what would change numbers, texts or the kernel.
LEFTOVERS = re.compile(
    r"(LOCAL_|GROUP_|NODE_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)|SLURM_(NTASKS|PROCID)|COLUMNS|LINES|MATPLOTLIBRC"
    r"|(NO|FORCE)_COLOR|(TORCHELASTIC|PL|JUPYTER|IPY|PYTEST)_.*|PYTHON(?!PATH$).*"
)
FOLDERS = ("IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class BookError(RuntimeError):
    """The book cannot be made as asked; the message names what came, what was expected, and the remedy."""


class Project:
    """The folders of the project at ``root``; without it, of the one that this builder lies in."""

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root).resolve() if root else Path(__file__).resolve().parents[2]
        self.book = self.root / "book"
        self.build = self.book / "_build"
        self.html = self.build / "html"
        self.expected = self.root / "tests" / "book" / "expected"
        if not (self.root / "_config.yml").is_file() or not (self.book / "_toc.yml").is_file():
            raise BookError(f"no book found at {self.root}: expected _config.yml and book/_toc.yml")

    def sources(self, names: list[str] | None = None) -> list[Path]:
        """The notebooks directly in book/, in order; ``names`` (stems, or file names) selects some of them."""
        found = {path.stem: path for path in sorted(self.book.glob("*.ipynb"))}
        wanted = [Path(name).name.removesuffix(".ipynb") for name in names or found]
        if unknown := [name for name in wanted if name not in found]:
            raise BookError(f"no such chapter: {', '.join(unknown)}; there are {', '.join(found)}")
        return [found[name] for name in dict.fromkeys(wanted)]


def read(path: Path) -> dict:
    """The notebook at ``path`` as JSON, each cell's source one text; a broken one is an error that names it."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
    except (ValueError, LookupError, TypeError) as error:
        raise BookError(f"{path.name} is not a valid notebook of format 4.5: {error!r}") from error
    return notebook


def as_bytes(notebook: dict) -> bytes:
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(notebook: dict) -> list[dict]:
    """The chapter's own code cells, without the one that papermill injects; messages count them from 1."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and INJECTED not in tags(cell)]


def environment(project: Project) -> dict[str, str]:
    """Environment of every process that executes, validates or builds: the same whoever calls it, and from where."""
    values = {name: value for name, value in os.environ.items() if not LEFTOVERS.fullmatch(name)}
    own, user = project.build / "home", os.path.expanduser("~")
    if not (os.path.isdir(user) and os.access(user, os.W_OK | os.X_OK)):
        values = {name: value for name, value in values.items() if not name.startswith("XDG_")} | {"HOME": str(own)}
    for name in FOLDERS:  # neither settings nor kernels of the user's other projects
        values[name] = str(own / name.lower())
        Path(values[name]).mkdir(parents=True, exist_ok=True)
    # This project's addlib, also where another copy of it is installed.
    path = [str(project.root), str(project.book), *filter(None, [os.environ.get("PYTHONPATH")])]
    # One thread: sums are split among threads, so their number shows in the fifth digit of a trained number. No progress
    # bars in stored output, and no warning of ipykernel's debugger.
    values |= dict.fromkeys(THREADS, "1") | {"PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    values |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "ADD_HEADLESS": "1", "TQDM_DISABLE": "1"}
    return values | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@contextmanager
def alone(project: Project, what: str):
    """One command at a time in a project; a second waits, and says for whom."""
    lock, holder = project.build / "builder.lock", project.build / "builder.txt"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False))
        except InUseError:
            said = holder.read_text(encoding="utf-8") if holder.is_file() else "it has just begun"
            print(f"waiting for another command in this folder: {said}", flush=True)
            stack.enter_context(locked(lock))
        holder.write_text(f"{what}, process {os.getpid()}, since {time.strftime('%H:%M:%S')}", encoding="utf-8")
        yield


def run_all(chapters: list, one, jobs: int | None) -> bool:
    """``one(chapter)`` of every chapter, longest first, ``jobs`` at once (None: one a core); True if all are."""
    from addlib.parallel import allotted_processes

    jobs, ordered = jobs or allotted_processes(), sorted(chapters, key=lambda chapter: -chapter.seconds)
    expected = max(sum(chapter.seconds for chapter in ordered) / jobs, ordered[0].seconds)
    print(f"{len(ordered)} to run, {jobs} at once: about {expected:.0f} s", flush=True)
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = [pool.submit(one, chapter) for chapter in ordered]
        return min(each.result() for each in waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
