"""pyproject.toml, requirements.lock and environment.yml name the same packages in the same versions."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# Packages that conda-forge calls otherwise than PyPI.
CONDA_TO_PYPI = {"dask-core": "dask", "dlib": "dlib-bin", "matplotlib-base": "matplotlib", "pytorch": "torch"}
CONDA_TO_PYPI |= {"opencv": "opencv-python-headless"}


def declared() -> dict[str, list[Requirement]]:
    """Requirements of pyproject.toml, core and extras, by canonical name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    found: dict[str, list[Requirement]] = {}
    for line in lines:
        requirement = Requirement(line)
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def locked() -> dict[str, set[str]]:
    """Versions of requirements.lock; a package may have one for each range of Python versions."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            found.setdefault(canonicalize_name(requirement.name), set()).add(pin.version)
    return found


def pinned() -> dict[str, str]:
    """Pins of environment.yml by PyPI name, python and pip left out."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    lines = [entry for entry in entries if isinstance(entry, str)]
    lines += [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    found = {}
    for line in lines:
        name, _, version = re.fullmatch(r"([\w.-]+)(==?)?([\w.]*)", line).groups()
        if name not in ("python", "pip"):
            found[canonicalize_name(CONDA_TO_PYPI.get(name, name))] = version
    return found


def test_every_declared_package_is_locked_in_a_version_that_is_allowed():
    lock = locked()
    for name, requirements in declared().items():
        assert name in lock, f"{name} is missing from requirements.lock; the command stands on top of it"
        for requirement in requirements:
            for version in lock[name]:
                assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, locked {version}"


def test_environment_pins_the_declared_packages_as_the_lock_does():
    assert set(pinned()) == set(declared())
    for name, version in pinned().items():
        parts = version.split(".")
        assert len(parts) >= 2, f"{name}={version}: give major and minor at least"
        for lock in locked()[name]:
            assert lock.split(".")[: len(parts)] == parts, f"environment.yml has {name}={version}, the lock {lock}"


def test_lock_names_no_index_and_no_path():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirements = [line for line in text.splitlines() if not line.startswith("#")]
    assert not re.search(r"https?://|file:|^-|/|@", "\n".join(requirements), re.M)


def test_version_is_the_same_everywhere():
    import addlib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert addlib.__version__ == project["version"] == str(citation["version"])


def test_losses_and_detectors_need_no_extra():
    """What 'pip install addlib' brings is enough; whatever only an extra brings cannot be imported here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {Requirement(line).name for line in project["dependencies"]}
    extra = {Requirement(line).name for lines in project["optional-dependencies"].values() for line in lines} - core
    modules = {"dlib-bin": "dlib", "opencv-python-headless": "cv2", "scikit-learn": "sklearn", "POT": "ot"}
    brought = {"filelock", "packaging", "pillow", "pyyaml", "tqdm"}  # by torch, torchvision and timm
    blocked = sorted({modules.get(name, name.replace("-", "_")) for name in extra - brought})
    code = f"""import sys
for name in {blocked}:
    sys.modules[name] = None
import torch, addlib.losses
from addlib.detectors import create_detector
student, teacher = (create_detector("resnet18_narrow")(torch.rand(4, 3, 64, 64)) for _ in range(2))
loss = addlib.losses.ADDLoss([1.0] * 4, [1.0] * 4)
print(float(loss(student.stages, teacher.stages, torch.tensor([0, 1, 0, 1])).detach()) > 0)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_each_extra_is_installed_by_make():
    """The lock holds all of them, and postBuild, which knows no lock, names those of the book."""
    command = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[1]
    assert "--all-extras" in command
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(name for name in project["optional-dependencies"] if name != "test")
    assert f"[{extras}]" in (ROOT / "postBuild").read_text(encoding="utf-8")
