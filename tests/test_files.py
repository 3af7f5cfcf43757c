import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from addlib import files
from addlib.files import InUseError, OutputError, atomic_write, locked, project_root


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    atomic_write(path, lambda file: file.write(b"one"))

    def breaks(file):
        file.write(b"tw")
        raise KeyError

    with pytest.raises(KeyError):
        atomic_write(path, breaks)
    assert path.read_bytes() == b"one" and os.listdir(path.parent) == ["a.bin"]


def test_full_disk_says_what_to_do(tmp_path):
    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device.*run the same again") as caught:
        atomic_write(tmp_path / "a.bin", full)
    assert caught.value.errno == 28 and list(tmp_path.iterdir()) == []


def test_longest_name(tmp_path):
    atomic_write(tmp_path / ("x" * 251 + ".npy"), lambda file: file.write(b"1"))


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot write in"), locked(tmp_path / "out/.lock"):
        pass


HOLD = """
import sys, time
from addlib.files import locked
with locked(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/.lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_one_at_a_time(tmp_path, holder):
    with pytest.raises(InUseError, match="wait for it"), locked(tmp_path / ".lock", wait=False):
        pass
    with locked(tmp_path / "other"), locked(tmp_path / "third"):
        pass


def test_lock_of_a_dead_process_is_free_and_is_waited_for(tmp_path, holder):
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    before = signal.signal(signal.SIGALRM, lambda *_: holder.kill())
    try:
        with locked(tmp_path / ".lock"):
            assert holder.wait() == -signal.SIGKILL
    finally:
        signal.signal(signal.SIGALRM, before)


def test_same_process_twice(tmp_path):
    with locked(tmp_path / ".lock"), pytest.raises(InUseError), locked(tmp_path / ".lock", wait=False):
        pass


def test_other_users_may_take_the_lock(tmp_path):
    with locked(tmp_path / ".lock"):
        assert (tmp_path / ".lock").stat().st_mode & 0o666 == 0o666


def test_root_is_the_clone_round_the_folder_or_addlibs_own(tmp_path, monkeypatch):
    for name in ("_config.yml", "book/_toc.yml"):
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / name).touch()
    (tmp_path / "clone/book/deep").mkdir()
    monkeypatch.chdir(tmp_path / "clone/book/deep")
    assert project_root() == tmp_path / "clone" == project_root(tmp_path / "clone")
    assert project_root(tmp_path) == Path(files.__file__).parents[1]
    monkeypatch.setattr(files, "__file__", str(tmp_path / "site-packages/addlib/files.py"))
    with pytest.raises(FileNotFoundError, match="_config.yml"):
        project_root(tmp_path)
