"""Kernels forked from a process that has imported what they need, and where they are ordinary ones."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from builder import warm

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernels are forked on Linux alone")
SEEN = "import os, sys, numpy as np; print('wave' in sys.modules, os.getcwd(), os.environ['WORD'], sys.path[0], np.random.rand())"


@pytest.fixture
def place(monkeypatch, tmp_path):
    """The environment of warm kernels, which have one module that nobody else imports; the process to fork from is ready."""
    monkeypatch.setattr(warm, "IMPORTED", ("ipykernel.kernelapp", "wave"))
    monkeypatch.setattr(warm, "GPUS", ())
    values = os.environ | {"WORD": "here", "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with warm.warm_kernels(values, 3) as found:
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        deadline = time.monotonic() + 60
        while not Path(found["JUPYTER_PATH"], "socket").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield found


@pytest.fixture
def start(tmp_path):
    """A function that starts a kernel and returns its manager and a function that runs code in it."""
    started = []

    def begin():
        manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
        started.append((manager, client))

        def run(code, timeout=30):
            said = []

            def hear(message):
                said.append(message["content"].get("text") or message["content"].get("ename") or "")

            client.execute_interactive(code, timeout=timeout, output_hook=hear)
            return "".join(said).strip()

        return manager, run

    yield begin
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_fork_has_folder_environment_and_paths_of_its_kernel_and_draws_numbers_of_its_own(place, start, tmp_path):
    (_, run), (_, again) = start(), start()
    *said, drawn = run(SEEN).split()
    assert said == ["True", str(tmp_path), "here", str(tmp_path)]
    assert again(SEEN).split()[-1] != drawn


def test_a_fork_is_interrupted_and_ends_with_what_started_it(place, start):
    manager, run = start()
    number = int(run("import os; print(os.getpid())"))
    later = threading.Timer(1, os.kill, (manager.provisioner.process.pid, signal.SIGINT))
    later.start()
    assert run("import time; time.sleep(600)") == "KeyboardInterrupt"
    assert run("print('goes on')") == "goes on"
    manager.provisioner.process.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{number}").exists():
        assert time.monotonic() < deadline, "the fork outlives what started it"
        time.sleep(0.1)


def test_an_ordinary_kernel_where_libraries_would_read_other_settings_or_nothing_answers(place, start, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert start()[1](SEEN).split()[0] == "False"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path(place["JUPYTER_PATH"], "socket").unlink()
    assert start()[1](SEEN).split()[0] == "False"


def test_few_kernels_and_gpus_have_ordinary_ones(monkeypatch, tmp_path):
    with warm.warm_kernels({"A": "b"}, 2) as values:
        assert values == {"A": "b"}
    monkeypatch.setattr(warm, "GPUS", (str(tmp_path),))
    with warm.warm_kernels({"A": "b"}, 9) as values:
        assert values == {"A": "b"}
