import os

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
