"""A Python file of one's own that registers detectors or distillers, for sweeps and for ``addlib predict``."""

import importlib.util
import sys
from pathlib import Path


def load(path: str | Path) -> None:
    """Run such a file; what it registers can then be named. Raises FileNotFoundError, or ValueError if it fails."""
    if not (path := Path(path).resolve()).is_file():
        raise FileNotFoundError(f"no plugin at {path}; expected a Python file that calls register_detector or the like")
    name = f"addlib_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f"{path} is no Python file; expected a name that ends in .py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # its classes are looked up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"plugin {path} fails: {type(error).__name__}: {error}") from error
