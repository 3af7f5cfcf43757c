import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from addlib import parallel
from addlib.parallel import allotted_processes, map_unordered, one_thread


def double(value):
    return 2 * value


def process(_):
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_once(workers):
    assert sorted(map_unordered(double, range(9), workers=workers)) == list(range(0, 18, 2))


def test_workers_are_other_processes():
    assert os.getpid() not in set(map_unordered(process, range(4), workers=2))


def test_jobs_are_taken_as_they_are_needed_and_processes_end_with_their_reader():
    taken = []

    def jobs():
        for value in range(1000):
            taken.append(value)
            yield value

    results = map_unordered(process, jobs(), workers=2)
    worker = next(results)
    assert len(taken) < 20
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def die(value):
    if value == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_a_worker_that_dies_loses_its_own_job_only():
    lost = []
    results = map_unordered(die, range(12), workers=2, lost=lambda job, error: lost.append((job, type(error))) or -job)
    assert sorted(results) == sorted([-4, *(value for value in range(12) if value != 4)])
    assert [(job, error.__name__) for job, error in lost] == [(4, "BrokenProcessPool")]


def fail(value):
    raise OSError(28, f"full at {value}")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_raises_stops_the_whole(workers):
    with pytest.raises(OSError, match="full at"):
        list(map_unordered(fail, range(5), workers=workers))


def test_existing_scheduler():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        assert sorted(map_unordered(double, range(5), scheduler=cluster.scheduler_address)) == [0, 2, 4, 6, 8]
        with pytest.raises(OSError, match="full at"):
            list(map_unordered(fail, range(5), scheduler=cluster.scheduler_address))


def test_bad_count():
    with pytest.raises(ValueError, match="workers is -1"):
        list(map_unordered(double, [1], workers=-1))


def test_one_thread_is_given_back():
    before = cv2.getNumThreads()
    with one_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def threads(_):
    return os.environ.get("OMP_NUM_THREADS")


def test_workers_run_one_thread_and_the_caller_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert set(map_unordered(threads, range(4), workers=2)) == {"1"} and os.environ["OMP_NUM_THREADS"] == "7"


SCRIPT = "from addlib import parallel\nprint('RUN', sorted(parallel.map_unordered(abs, [-2, -1], workers=2)), __file__)\n"


@pytest.mark.parametrize("how", ["script", "module", "input"])
def test_a_script_without_a_guard_is_not_run_again(tmp_path, how):
    (tmp_path / "script [1].py").write_text(SCRIPT)
    (tmp_path / "module.py").write_text(SCRIPT)
    arguments = {"script": ["script [1].py"], "module": ["-m", "module"], "input": ["-"]}[how]
    text = SCRIPT.replace(", __file__", "") if how == "input" else None
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.count("RUN [1, 2]") == 1, done.stderr


def test_no_home_no_temporary_folder(tmp_path):
    environment = {**os.environ, "HOME": "/dev/null", "TMPDIR": "/dev/null", "LC_ALL": "C"}
    command = [sys.executable, "-c", SCRIPT.replace(", __file__", "")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "RUN [1, 2]" in done.stdout, done.stderr


ENDLESS = """
import time
from addlib import parallel
from tests_of_parallel import pid_and_wait
for pid in parallel.map_unordered(pid_and_wait, range(9), workers=2): print(pid, flush=True)
"""


def test_workers_of_a_killed_process_end(tmp_path):
    module = "import os, time\ndef pid_and_wait(n):\n    time.sleep(60 * (n > 0))\n    return os.getpid()\n"
    (tmp_path / "tests_of_parallel.py").write_text(module)
    with subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.kill()
    limit = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < limit:
            os.kill(worker, 0)
            time.sleep(0.05)


@pytest.fixture
def roomy(monkeypatch, tmp_path):
    """A machine of 64 cores and much memory, in a control group; the folder of the groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sysconf", lambda _: 1 << 20)
    monkeypatch.setattr(parallel, "CONTROL_GROUPS", tmp_path)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    return tmp_path


def test_as_many_processes_as_were_allotted(roomy, monkeypatch):
    assert allotted_processes() == 64
    (roomy / "cpu.max").write_text("max 100000\n")
    (roomy / "memory.max").write_text("max\n")
    assert allotted_processes() == 64
    (roomy / "memory.max").write_text(f"{20 << 30}\n")
    assert allotted_processes() == 20
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "12")
    assert allotted_processes() == 12
    (roomy / "cpu.max").write_text("350000 100000\n")
    assert allotted_processes() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert allotted_processes() == 1


def test_default_is_what_was_allotted(roomy, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert set(map_unordered(process, range(2))) == {os.getpid()}, "one core: in this process"


def test_progress_without_a_terminal(monkeypatch, capsys):
    for name in ("TQDM_DISABLE", "ADD_HEADLESS"):
        monkeypatch.delenv(name, raising=False)
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(parallel.time, "monotonic", lambda: float(next(clock)))
    list(map_unordered(double, range(12), workers=1, total=12, describe="videos"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "videos: 2 of 12, 6 s, about 30 s left" and lines[-1] == "videos: 12 of 12, 36 s"
    assert len(lines) == 3, "a quarter of a minute apart"
    for name in ("TQDM_DISABLE", "ADD_HEADLESS"):
        monkeypatch.setenv(name, "1")
        list(map_unordered(double, range(12), workers=1, total=12, describe="videos"))
        monkeypatch.delenv(name)
    list(map_unordered(double, range(12), workers=1, total=12))
    assert capsys.readouterr().err == ""
