"""Many independent jobs over processes or machines, through Dask."""

import contextlib
import os
from itertools import islice


@contextlib.contextmanager
def _client(workers, scheduler):
    # Dask's cluster takes a second to import: only those who need it pay.
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        with Client(scheduler) as client:
            yield client
        return
    settings = {"distributed.worker.daemon": True, "distributed.admin.low-level-log-length": 0}
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


def map_unordered(function, jobs, *, workers=None, scheduler=None, total=None, describe=None):
    """Yield ``function(job)`` for every job, as they finish.

    function: importable, of one argument. jobs: iterable of picklable values, taken as workers come free, so that memory does
    not grow with their number. workers: processes, by default one a core; 1 runs in this process. scheduler: address of a Dask
    scheduler ("tcp://host:8786") to use instead. total, describe: for the progress bar, which only shows on a terminal.

    A job that raises stops the whole: ``function`` should return what went wrong with its one input rather than raise it.
    """
    from tqdm import tqdm

    workers = workers or os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more, or None for one a core")
    with tqdm(total=total, desc=describe, disable=None if describe else True) as bar:
        if workers == 1 and not scheduler:
            for job in jobs:
                yield function(job)
                bar.update()
            return
        with _client(workers, scheduler) as client:
            from distributed import as_completed

            jobs = iter(jobs)
            ahead = 2 * sum(client.nthreads().values()) or 2
            running = as_completed(
                (client.submit(function, job, pure=False) for job in islice(jobs, ahead)), with_results=False
            )
            for future in running:
                result = future.result()
                future.release()
                for job in islice(jobs, 1):
                    running.add(client.submit(function, job, pure=False))
                yield result
                bar.update()


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
