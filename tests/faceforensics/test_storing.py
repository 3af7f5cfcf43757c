import json
import os
import subprocess
import sys

import pytest

from addlib.faceforensics import storing


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    storing.write(path, lambda file: file.write(b"one"))

    def breaks(file):
        file.write(b"tw")
        raise KeyError

    with pytest.raises(KeyError):
        storing.write(path, breaks)
    assert path.read_bytes() == b"one" and os.listdir(path.parent) == ["a.bin"]


def test_full_disk_says_what_to_do(tmp_path):
    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(storing.OutputError, match="No space left on device.*run the same again") as caught:
        storing.write(tmp_path / "a.bin", full)
    assert caught.value.errno == 28 and list(tmp_path.iterdir()) == []


def test_longest_name(tmp_path):
    storing.write(tmp_path / ("x" * 251 + ".npy"), lambda file: file.write(b"1"))


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(storing.OutputError, match="cannot write in"), storing.held(tmp_path / "out"):
        pass


HOLD = """
import sys, time
from addlib.faceforensics import storing
with storing.held(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_second_one_is_told_who_holds_the_folder(tmp_path, holder):
    with pytest.raises(storing.InUseError, match=f"process {holder.pid} on "), storing.held(tmp_path):
        pass
    (tmp_path / storing.HOLDER).unlink()
    with pytest.raises(storing.InUseError, match="another process"), storing.held(tmp_path):
        pass


def test_lock_of_a_dead_process_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert json.loads((tmp_path / storing.HOLDER).read_text())["pid"] == holder.pid
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"half")
    with storing.held(tmp_path):
        assert json.loads((tmp_path / storing.HOLDER).read_text())["pid"] == os.getpid()
        assert not list(tmp_path.glob("*.part")), "what the dead one left half-written is gone"
    assert not (tmp_path / storing.HOLDER).exists()


def test_same_process_twice(tmp_path):
    with storing.held(tmp_path), pytest.raises(storing.InUseError), storing.held(tmp_path):
        pass
