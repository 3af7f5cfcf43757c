import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from addlib import files
from addlib.files import InUseError, OutputError, atomic_write, locked, project_root


@pytest.mark.parametrize("error", [KeyError(), OSError(28, "No space left on device")])
def test_a_file_is_there_whole_or_not_at_all(tmp_path, error):
    path = tmp_path / "deep" / ("x" * 251 + ".npy")  # the longest name
    atomic_write(path, lambda file: file.write(b"one"))

    def breaks(file):
        file.write(b"tw")
        raise error

    full = isinstance(error, OSError)
    with pytest.raises(OutputError if full else KeyError, match="No space left .*run the same again" if full else None):
        atomic_write(path, breaks)
    assert path.read_bytes() == b"one" and os.listdir(path.parent) == [path.name]


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot write in"), locked(tmp_path / "out/.lock"):
        pass
    with pytest.raises(OutputError, match="cannot write a in"):
        atomic_write(tmp_path / "out/a", lambda file: None)


HOLD = """
import sys, time
from addlib.files import locked
with locked(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_lock_of_another_process(tmp_path):
    """It keeps others out, says so, is free when its holder is killed, and is open to other users."""
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "ready\n"
        with locked(tmp_path / "other"), pytest.raises(InUseError, match="wait for it"), locked(path, wait=False):
            pass
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        before = signal.signal(signal.SIGALRM, lambda *_: holder.kill())
        try:
            with locked(path):
                assert holder.wait() == -signal.SIGKILL and path.stat().st_mode & 0o666 == 0o666
        finally:
            signal.signal(signal.SIGALRM, before)


def test_root_is_the_clone_round_the_folder_or_addlibs_own(tmp_path, monkeypatch):
    for name in ("_config.yml", "book/_toc.yml", "book/deep/file"):
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / name).touch()
    monkeypatch.chdir(tmp_path / "clone/book/deep")
    assert project_root() == tmp_path / "clone" == project_root(tmp_path / "clone")
    assert project_root(tmp_path) == Path(files.__file__).parents[1]
    monkeypatch.setattr(files, "__file__", str(tmp_path / "site-packages/addlib/files.py"))
    with pytest.raises(FileNotFoundError, match="_config.yml"):
        project_root(tmp_path)
