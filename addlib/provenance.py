"""Where an executed chapter comes from: device, commit, versions, day."""

from __future__ import annotations

import datetime
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Name on the page, and the distributions that may provide it.
PACKAGES = {
    "torch": ["torch"],
    "numpy": ["numpy"],
    "opencv": ["opencv-python-headless", "opencv-python"],
    "av": ["av"],
    "dlib": ["dlib-bin", "dlib"],
}


def record(root: Path) -> dict[str, object]:
    """What is the same for every chapter of one run."""
    return {
        "device": device(),
        "commit": commit(root),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
    }


def device() -> str:
    """Name of the GPU that torch uses; without one, the model of the CPU."""
    try:
        import torch

        if torch.cuda.is_available():
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
        return git("rev-parse", "--short=12", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "--", ".", ":!data/results") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found
