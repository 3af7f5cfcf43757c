"""Many independent jobs over the processes of this machine, or over the machines of a Dask cluster."""

import contextlib
import itertools
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

SYSTEM = Path("/")
# Files of a control group, version 2 and 1: microseconds of all cores in a period, bytes of memory; and with what is taken.
LIMITS = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("memory.max",), ("memory.limit_in_bytes",)
MEMORY = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
MEMORY_OF_A_PROCESS = 1 << 30  # bytes that a process is reckoned with where the number of processes is not given


def allotted_processes() -> int:
    """Processes that this job may run at once: by cores (affinity, SLURM, control groups) and memory, at least one."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    with contextlib.suppress(KeyError, ValueError):
        limits.append(int(os.environ["SLURM_CPUS_PER_TASK"]))
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY_OF_A_PROCESS)
    for amount, *period in _numbers(LIMITS):
        limits += [amount // (period[0] if period else MEMORY_OF_A_PROCESS)] if amount > 0 else []
    return max(1, min(limits))


def free_memory() -> int:
    """Bytes that this job may still take on this machine, within what it was allotted."""
    limits = [sys.maxsize, *(limit - taken for limit, taken in _numbers(MEMORY))]
    with contextlib.suppress(OSError, IndexError):
        limits.append(1024 * int((SYSTEM / "proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]))
    return min(limits)


def _numbers(kinds: tuple[tuple[str, ...], ...]) -> Iterator[list[int]]:
    """What the files of each kind hold, in the control groups of this process and those above them; on Linux alone."""
    with contextlib.suppress(OSError):
        places = [line.split(":", 2)[1:] for line in (SYSTEM / "proc/self/cgroup").read_text().splitlines()]
        # Version 2 of control groups has one tree, without a name; version 1 has one for each controller.
        named = [(name, path.strip("/")) for names, path in places for name in names.split(",")]
        trees = [SYSTEM / "sys/fs/cgroup" / name / path for name, path in named]
        for group, files in itertools.product((group for own in trees for group in (own, *own.parents)), kinds):
            with contextlib.suppress(OSError, ValueError):  # not every group has a limit; "max" is none
                yield [int(word) for name in files for word in (group / name).read_text().split()]


def map_unordered(
    function: Callable, jobs: Iterable, *, workers: int | None = None, scheduler: str | None = None,
    total: int | None = None, describe: str | None = None, lost: Callable | None = None,
) -> Iterator:  # fmt: skip
    """Yield ``function(job)`` for every job, as they finish. A job that raises stops the whole.

    A script needs no ``if __name__ == "__main__"``: the processes import the module of ``function`` and nothing else.

    Args:
        function: importable, of one argument.
        jobs: picklable values, taken as processes come free.
        workers: processes; by default as many as this job was allotted. 1 runs in this process.
        scheduler: address of a Dask scheduler ("tcp://host:8786") whose workers are used instead.
        total, describe: number and kind of the jobs, for the progress, which is hidden without the latter.
        lost: called with a job and the error where the job's process died of it, which is raised otherwise; yielded instead.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more, or None for as many as there are cores")
    workers, results = workers or allotted_processes(), (function(job) for job in jobs)
    if scheduler or workers > 1:
        results = _over_pools(function, iter(jobs), min(workers, total or workers), scheduler, lost)
    hidden = describe is None or bool(os.environ.get("TQDM_DISABLE") or os.environ.get("ADD_HEADLESS"))
    pace = {} if sys.stderr.isatty() else {"mininterval": 10, "delay": 4}  # seconds: a log file needs few lines
    with contextlib.closing(results):
        yield from tqdm(results, describe, total, disable=hidden, **pace)


def _over_pools(function, jobs, workers, scheduler, lost):
    running = {}
    with _pools(workers, scheduler) as (free, replacement):
        while True:
            for job in itertools.islice(jobs, len(free)):
                pool = free.pop()
                running[_submit(pool, function, job)] = job, pool
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, pool = running.pop(future)
                error = future.exception()
                died = isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker"  # Dask's
                free.append(replacement() if died else pool)
                yield lost(job, error) if died and lost else future.result()


@contextlib.contextmanager
def _pools(workers, scheduler):
    """Executors that take a job each, of one process since a process that dies breaks its pool; and what makes another."""
    with contextlib.ExitStack() as stack:
        if scheduler:
            from distributed import Client

            client = stack.enter_context(Client(scheduler))
            machines = stack.enter_context(client.get_executor(pure=False))
            yield [machines] * (2 * sum(client.nthreads().values()) or 2), lambda: machines
            return
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads as they are
        alive, leash = context.Pipe(duplex=False)

        def pool():
            return stack.enter_context(ProcessPoolExecutor(1, context, _begin, (alive,)))

        try:
            yield [pool() for _ in range(workers)], pool
        except BaseException:
            leash.close()  # where the jobs are not done, their processes end now
            raise


def _begin(alive):
    """Begin a process: one thread, since the processes share the cores; it ends when its parent drops the leash or dies."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    threading.Thread(target=lambda: os._exit(1) if alive.poll(None) else None, daemon=True).start()


def _submit(pool, function, job):
    """Submit a job; a process that starts for it does not run the caller's script a second time."""
    main = sys.modules["__main__"]
    if function.__module__ != "__main__":
        sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        return pool.submit(function, job)
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread: a process a core is already there, and the order of its additions stays the same anywhere."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
