"""Many independent jobs over the processes of this machine, or over the machines of a Dask cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMORY_OF_A_PROCESS = 1 << 30  # bytes that a process is reckoned with where the number of processes is not given
# The processes share the cores: threads of a numeric library would only fight over them.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
FIRST_LINE, NEXT_LINE = 4.0, 15.0  # seconds until progress is told where there is no terminal


def allotted_processes() -> int:
    """Processes that this job may run at once: by cores (affinity, SLURM, control groups) and memory, at least one."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    with contextlib.suppress(KeyError, ValueError):
        limits.append(int(os.environ["SLURM_CPUS_PER_TASK"]))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY_OF_A_PROCESS)
    with contextlib.suppress(OSError):
        own = CONTROL_GROUPS / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # not everywhere is a limit; "max" is none
                limits.append(int((group / "memory.max").read_text()) // MEMORY_OF_A_PROCESS)
            with contextlib.suppress(OSError, ValueError):
                quota, period = (group / "cpu.max").read_text().split()
                limits.append(-(-int(quota) // int(period)))
    return max(1, min(limits))


def map_unordered(
    function: Callable, jobs: Iterable, *, workers: int | None = None, scheduler: str | None = None, total: int | None = None,
    describe: str | None = None, lost: Callable | None = None,
) -> Iterator:  # fmt: skip
    """Yield ``function(job)`` for every job, as they finish.

    A job that raises stops the whole: ``function`` should return what went wrong with its one input rather than raise it. A
    script needs no ``if __name__ == "__main__"``: the processes import the module of ``function`` and nothing else.

    Args:
        function: importable, of one argument.
        jobs: picklable values, taken as processes come free, so that memory does not grow with their number.
        workers: processes; by default as many as this job was allotted cores and memory for. 1 runs in this process.
        scheduler: address of a Dask scheduler ("tcp://host:8786") whose workers are used instead.
        total: number of jobs, for the progress.
        describe: what the jobs are, for the progress; None shows none.
        lost: called with a job and the error where the job's process died of it; its result is yielded instead. Without it the
            error is raised. Jobs that were only waiting for a process that died run again, one at a time.

    Raises:
        ValueError: for a number of workers below 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more, or None for as many as there are cores")
    workers = workers or allotted_processes()
    if workers == 1 and not scheduler:
        results = (function(job) for job in jobs)
    else:
        results = _over_processes(function, iter(jobs), min(workers, total or workers), scheduler, lost)
    with contextlib.closing(results), _progress(total, describe) as done:
        for result in results:
            done()
            yield result


def _over_processes(
    function: Callable, jobs: Iterator, workers: int, scheduler: str | None, lost: Callable | None
) -> Iterator:
    suspects, unfinished = [], True
    while unfinished:
        unfinished = False
        for job, future in _pooled(function, jobs, workers, scheduler):
            if _died(future):
                suspects.append(job)
                unfinished = True
            else:
                yield future.result()
    for suspect in suspects:  # a process died: of one of these jobs, and the others waited beside it
        for job, future in _pooled(function, iter([suspect]), 1, scheduler):
            yield lost(job, future.exception()) if lost and _died(future) else future.result()


def _died(future: Future) -> bool:
    return isinstance(error := future.exception(), BrokenProcessPool) or type(error).__name__ == "KilledWorker"  # Dask's


def _pooled(function: Callable, jobs: Iterator, workers: int, scheduler: str | None) -> Iterator[tuple[object, Future]]:
    """Yield (job, its future) as they finish in the processes of one pool, until all have or a process has died."""
    with _machines(scheduler) if scheduler else _processes(workers, function) as (submit, ahead):
        running, broken = {}, False
        while running or not broken:
            for job in islice(jobs, 0 if broken else ahead - len(running)):
                running[submit(function, job)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                broken |= _died(future)
                yield running.pop(future), future


@contextlib.contextmanager
def _machines(scheduler: str) -> Iterator[tuple[Callable, int]]:
    from distributed import Client

    with Client(scheduler) as client, client.get_executor(pure=False) as pool:
        yield pool.submit, 2 * sum(client.nthreads().values()) or 2


@contextlib.contextmanager
def _processes(workers: int, function: Callable) -> Iterator[tuple[Callable, int]]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads as they happen to be
    alive, leash = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _end_with, (alive,))

    def submit(*job) -> Future:
        with _start_of_process(function):
            return pool.submit(*job)

    try:
        yield submit, 2 * workers
        pool.shutdown()
    finally:
        leash.close()  # where the jobs are not done, their processes end now
        pool.shutdown(cancel_futures=True)


def _end_with(alive: Connection) -> None:
    """End this process when the other end of a pipe is closed, which the death of the parent does too."""
    threading.Thread(target=lambda: os._exit(1) if alive.poll(None) else None, daemon=True).start()


@contextlib.contextmanager
def _start_of_process(function: Callable) -> Iterator[None]:
    """A process that is started here computes on one thread, and does not run the caller's script a second time."""
    main = vars(sys.modules["__main__"]) if function.__module__ != "__main__" else {}
    changes = ((os.environ, ONE_THREAD), (main, {"__file__": None, "__spec__": None}))
    kept = [{name: space[name] for name in new if name in space} for space, new in changes]
    for space, new in changes:
        space.update(new)
    try:
        yield
    finally:
        for (space, new), old in zip(changes, kept, strict=True):
            for name in new:
                del space[name]
            space.update(old)


@contextlib.contextmanager
def _progress(total: int | None, describe: str | None) -> Iterator[Callable[[], object]]:
    """A function to call after each job: a bar on a terminal, elsewhere a line now and then on standard error."""
    if describe is None or os.environ.get("TQDM_DISABLE") or os.environ.get("ADD_HEADLESS"):
        yield lambda: None
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=describe) as bar:
            yield bar.update
        return
    begin, told, count = time.monotonic(), None, 0

    def done() -> None:
        nonlocal told, count
        count, now = count + 1, time.monotonic()
        if now - (told or begin) > (NEXT_LINE if told else FIRST_LINE) or (told and count == total):
            told = now
            rest = f", about {(total - count) * (now - begin) / count:.0f} s left" if total and count < total else ""
            print(f"{describe}: {count} of {total or '?'}, {now - begin:.0f} s{rest}", file=sys.stderr, flush=True)

    yield done


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
