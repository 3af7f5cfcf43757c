"""Many independent jobs over processes or machines, through Dask."""

import contextlib
import os
from itertools import islice

# Dask tells glibc to hand freed memory back at once. Image after image of the same size is then mapped and cleared anew, which
# took two fifths of the time of drawing MiniForensics; and threads of a numeric library would only fight over the cores.
ONE_JOB_A_PROCESS = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@contextlib.contextmanager
def _client(workers, scheduler):
    # Dask's cluster takes a second to import: only those who need it pay.
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        with Client(scheduler) as client:
            yield client
        return
    settings = {
        "distributed.worker.daemon": True,
        "distributed.admin.low-level-log-length": 0,
        "distributed.scheduler.allowed-failures": 0,  # a job that kills its worker would otherwise kill three more
        "distributed.nanny.pre-spawn-environ": ONE_JOB_A_PROCESS,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def map_unordered(function, jobs, *, workers=None, scheduler=None, total=None, describe=None, lost=None):
    """Yield ``function(job)`` for every job, as they finish.

    function: importable, of one argument. jobs: iterable of picklable values, taken as workers come free, so that memory does
    not grow with their number. workers: processes, by default one a core; 1 runs in this process. scheduler: address of a Dask
    scheduler ("tcp://host:8786") to use instead. total, describe: for the progress bar, which only shows on a terminal.
    lost: called with a job and the error where the job's worker process died of it; its result is yielded instead. Without it
    the error is raised. Jobs that were only waiting at a worker that died are not lost: suspects run again, one at a time.

    A job that raises stops the whole: ``function`` should return what went wrong with its one input rather than raise it.
    """
    from tqdm import tqdm

    workers = workers or os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more, or None for one a core")
    with tqdm(total=total, desc=describe, disable=None if describe else True) as bar:
        if workers == 1 and not scheduler:
            results = map(function, jobs)
        else:
            results = _over_processes(function, jobs, workers, scheduler, lost)
        with contextlib.closing(results) if hasattr(results, "close") else contextlib.nullcontext():
            for result in results:
                yield result
                bar.update()


def _over_processes(function, jobs, workers, scheduler, lost):
    from distributed import KilledWorker, as_completed

    with _client(workers, scheduler) as client:
        job_of, suspects, jobs = {}, [], iter(jobs)

        def start(count):
            for job in islice(jobs, count):
                future = client.submit(function, job, pure=False)
                job_of[future.key] = job
                yield future

        running = as_completed(start(2 * sum(client.nthreads().values()) or 2), with_results=False)
        for future in running:
            job = job_of.pop(future.key)
            try:
                result = future.result()
            except KilledWorker:
                suspects.append(job)
            else:
                yield result
            future.release()
            running.update(start(1))
        for job in suspects:
            future = client.submit(function, job, pure=False)
            try:
                result = future.result()
            except KilledWorker as error:
                if lost is None:
                    raise
                result = lost(job, error)
            yield result


@contextlib.contextmanager
def one_thread():
    """OpenCV on one thread: a process a core is already there, and the order of its additions stays the same anywhere."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
