"""Where things lie: the folders of one project, and its chapters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

WORKER = Path(__file__).with_name("worker.py")  # the program that executes one notebook


class BookError(RuntimeError):
    """The book cannot be made as asked; the message names what came, what was expected, and the remedy."""


@dataclass(frozen=True)
class Project:
    """The folders of a project, all derived from its root."""

    root: Path

    @property
    def book(self) -> Path:
        return self.root / "book"

    @property
    def build(self) -> Path:
        return self.book / "_build"

    @property
    def stage(self) -> Path:
        return self.build / "stage"

    @property
    def html(self) -> Path:
        return self.build / "html"

    @property
    def expected(self) -> Path:
        return self.root / "tests" / "book" / "expected"

    def executed(self, profile: str) -> Path:
        return self.build / "executed" / profile

    def chapters(self, names: list[str] | None = None) -> list[Path]:
        """Sources of the chapters, in order of their names; ``names`` (stems, or file names) selects some of them.

        Only notebooks directly in book/ are chapters: those of book/experiments are run by sweeps.
        """
        found = {path.stem: path for path in sorted(self.book.glob("*.ipynb"))}
        if not found:
            raise BookError(f"no chapters: expected notebooks (*.ipynb) in {self.book}")
        if not names:
            return list(found.values())
        wanted = [Path(name).name.removesuffix(".ipynb") for name in names]
        unknown = [name for name in wanted if name not in found]
        if unknown:
            raise BookError(f"no such chapter: {', '.join(unknown)}; there are {', '.join(found) or 'none'}")
        return [found[name] for name in dict.fromkeys(wanted)]


def locate(root: str | Path | None = None) -> Project:
    """The project at ``root``; without it the one round the working directory, else the one that holds addlib."""
    if root is not None:
        candidates = [Path(root).resolve()]
    else:
        here = Path.cwd().resolve()
        candidates = [here, *here.parents, Path(__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "_config.yml").is_file() and (folder / "book" / "_toc.yml").is_file():
            return Project(folder)
    raise BookError(
        f"no book found from {candidates[0]}: expected _config.yml and book/_toc.yml; run the command inside a clone"
    )


def child_environment(project: Project) -> dict[str, str]:
    """Environment of every kernel that executes or validates a chapter."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    path = [str(project.root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        # One thread: sums are split among threads, so their number shows in the fifth digit of a trained number.
        **threads,
        "PYTHONHASHSEED": "0",
        # This project's addlib, also where another copy of it is installed.
        "PYTHONPATH": os.pathsep.join(path),
        # No progress bars in stored output.
        "ADD_HEADLESS": "1",
        "TQDM_DISABLE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # The debugger that ipykernel loads warns on stderr otherwise, and stderr fails the build.
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
