import os
import signal

import cv2
import pytest

from addlib.parallel import map_unordered, one_thread


def double(value):
    return 2 * value


def process(_):
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_once(workers):
    assert sorted(map_unordered(double, range(9), workers=workers)) == list(range(0, 18, 2))


def test_workers_are_other_processes():
    assert os.getpid() not in set(map_unordered(process, range(4), workers=2))


def test_jobs_are_taken_as_they_are_needed():
    taken = []

    def jobs():
        for value in range(1000):
            taken.append(value)
            yield value

    results = map_unordered(double, jobs(), workers=2)
    next(results)
    assert len(taken) < 20
    results.close()


def die(value):
    if value == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_a_worker_that_dies_loses_its_own_job_only():
    lost = []
    results = map_unordered(die, range(12), workers=2, lost=lambda job, error: lost.append((job, type(error))) or -job)
    assert sorted(results) == sorted([-4, *(value for value in range(12) if value != 4)])
    assert [(job, error.__name__) for job, error in lost] == [(4, "KilledWorker")]


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


def test_bad_count():
    with pytest.raises(ValueError, match="workers is -1"):
        list(map_unordered(double, [1], workers=-1))


def test_one_thread_is_given_back():
    before = cv2.getNumThreads()
    with one_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def memory_settings(_):
    return os.environ.get("MALLOC_MMAP_THRESHOLD_"), os.environ.get("OMP_NUM_THREADS")


def test_workers_keep_freed_memory_and_run_one_thread():
    assert set(map_unordered(memory_settings, range(4), workers=2)) == {(str(1 << 25), "1")}
