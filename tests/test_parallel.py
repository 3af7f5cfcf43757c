import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from addlib import parallel
from addlib.parallel import allotted_processes, free_memory, map_unordered, one_thread


def double(value):
    return 2 * value


def process(_):
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def fail(value):
    raise OSError(28, f"full at {value}")


def die(value):
    if value == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_once_unless_one_raises(workers):
    assert sorted(map_unordered(double, range(9), workers=workers)) == list(range(0, 18, 2))
    with pytest.raises(OSError, match="full at"):
        list(map_unordered(fail, range(5), workers=workers))
    with pytest.raises(ValueError, match="workers is -1"):
        list(map_unordered(double, [1], workers=-1))


def test_jobs_are_taken_as_they_are_needed_and_processes_end_with_their_reader(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    taken = []
    results = map_unordered(process, (taken.append(value) or value for value in range(1000)), workers=2)
    worker, threads = next(results)
    assert len(taken) < 20 and worker != os.getpid()
    assert threads == "1" and os.environ["OMP_NUM_THREADS"] == "7"
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_worker_that_dies_loses_its_own_job_only():
    lost = []
    results = map_unordered(die, range(12), workers=2, lost=lambda job, error: lost.append((job, type(error))) or -job)
    assert sorted(results) == sorted([-4, *(value for value in range(12) if value != 4)])
    assert [(job, error.__name__) for job, error in lost] == [(4, "BrokenProcessPool")]
    with pytest.raises(Exception, match="terminated abruptly"):
        list(map_unordered(die, [4, 5], workers=2))


def test_existing_scheduler():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        assert sorted(map_unordered(double, range(5), scheduler=cluster.scheduler_address)) == [0, 2, 4, 6, 8]
        with pytest.raises(OSError, match="full at"):
            list(map_unordered(fail, range(5), scheduler=cluster.scheduler_address))


def test_one_thread_is_given_back():
    with one_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() > 1 or os.cpu_count() == 1


SCRIPT = "from addlib import parallel\nprint('RUN', sorted(parallel.map_unordered(abs, [-2, -1], workers=2)))\n"


@pytest.mark.parametrize("arguments", [["script [1].py"], ["-m", "module"], ["-"]])
def test_a_script_without_a_guard_is_not_run_again(tmp_path, arguments):
    """Nor is a home or a temporary folder needed."""
    (tmp_path / "script [1].py").write_text(SCRIPT)
    (tmp_path / "module.py").write_text(SCRIPT)
    how = {"input": SCRIPT if arguments == ["-"] else None, "capture_output": True, "text": True, "timeout": 60}
    environment = {**os.environ, "HOME": "/dev/null", "TMPDIR": "/dev/null", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, **how)
    assert done.returncode == 0 and done.stdout == "RUN [1, 2]\n", done.stderr


def pid_and_wait(number):
    time.sleep(60 * (number > 0))
    return os.getpid()


ENDLESS = """
from addlib import parallel
from test_parallel import pid_and_wait
for pid in parallel.map_unordered(pid_and_wait, range(9), workers=2): print(pid, flush=True)
"""


def test_workers_of_a_killed_process_end():
    folder = os.path.dirname(__file__)
    with subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.kill()
    limit = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < limit:
            os.kill(worker, 0)
            time.sleep(0.05)


V1 = "9:memory:/job/1\n4:cpu,cpuacct:/job/1\n1:name=systemd:/job"


@pytest.mark.parametrize(
    "own, steps",
    [
        ("0::/job/1", [("cpu.max", "max 100000", 64), ("job/memory.max", "max", 64), ("job/1/memory.max", 20 << 30, 20),
                         ("cpu.max", "350000 100000", 3)]),
        (V1, [("cpu/cpu.cfs_period_us", 100000, 64), ("cpu/cpu.cfs_quota_us", -1, 64), ("cpu/cpu.cfs_quota_us", 650000, 6),
              ("memory/memory.limit_in_bytes", (1 << 63) - 4096, 6), ("memory/job/1/memory.limit_in_bytes", 4 << 30, 4)]),
    ],
    ids=["version 2", "version 1"],
)  # fmt: skip
def test_as_many_processes_as_were_allotted(monkeypatch, tmp_path, own, steps):
    """A machine of 64 cores and much memory; in a control group; under SLURM; on one core, in this process."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sysconf", lambda _: 1 << 20)
    monkeypatch.setattr(parallel, "SYSTEM", tmp_path)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert allotted_processes() == 64
    for file, text, expected in [("proc/self/cgroup", own, 64), *((f"sys/fs/cgroup/{file}", *rest) for file, *rest in steps)]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(f"{text}\n")
        assert allotted_processes() == expected, file
    assert free_memory() == sys.maxsize, "nothing says how much is taken"
    (limit,) = (tmp_path / "sys").rglob("job/1/memory.*")
    limit.with_name(limit.name.replace("max", "current").replace("limit", "usage")).write_text("1000")
    assert free_memory() == int(limit.read_text()) - 1000
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2 kB\n")
    assert free_memory() == 2048
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert allotted_processes() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert {pid for pid, _ in map_unordered(process, range(2))} == {os.getpid()}


def test_progress(monkeypatch, capsys):
    for name in ("TQDM_DISABLE", "ADD_HEADLESS"):
        monkeypatch.setenv(name, "1")
        list(map_unordered(double, range(12), workers=1, total=12, describe="videos"))
        monkeypatch.delenv(name)
    list(map_unordered(double, range(12), workers=1, total=12))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(map_unordered(double, range(12), workers=1, total=12, describe="videos"))
    assert "videos: 100%" in capsys.readouterr().err
