"""Kernels that start at once: forks of a process that has imported what chapters import.

By itself each kernel imports torch, pandas, Matplotlib and Lightning anew, 4 to 14 seconds of a core, nineteen times a book. In
:func:`warm_kernels` a kernel specification stands in for "python3", so that papermill, nbval and sweeps start their kernels as
ever. What it starts is this file, which has a kernel forked and lives as long; or becomes an ordinary kernel, where the process
to fork from is not ready yet, or has other settings that libraries read when they are imported.
"""

import contextlib
import json
import os
import signal
import socket
import sys

# Outside the project, which may change; a library that is not installed is left out.
IMPORTED = (
    "ipykernel.kernelapp", "matplotlib_inline.backend_inline", "matplotlib.pyplot", "pandas", "seaborn", "scipy.stats",
    "scipy.optimize", "sklearn.metrics", "torch", "torchvision", "lightning.pytorch", "torchmetrics", "timm", "cv2", "av", "nbformat",
)  # fmt: skip
READ_AT_IMPORT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MPLBACKEND", "PYTHONHASHSEED")
GPUS = ("/dev/nvidiactl", "/dev/kfd")  # a driver does not survive a fork


@contextlib.contextmanager
def warm_kernels(values: dict[str, str], count: int):
    """An environment, ``values`` and what makes ``count`` kernels start at once; as it is where that would not pay or not work."""
    if count < 3 or not sys.platform.startswith("linux") or any(map(os.path.exists, GPUS)):
        yield values
        return
    import subprocess
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:  # in it, since the path of a socket is short
        place = Path(folder, "kernels", "python3", "kernel.json")
        place.parent.mkdir(parents=True)
        start = [sys.executable, "-I", "-S", __file__]
        command = [*start, f"{folder}/socket", "-f", "{connection_file}"]
        place.write_text(json.dumps({"argv": command, "display_name": "Python 3 (ipykernel)", "language": "python"}))
        parent = subprocess.Popen(
            [sys.executable, __file__, f"{folder}/socket", *IMPORTED], env=values, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield values | {"JUPYTER_PATH": folder}
        finally:
            parent.kill()
            parent.communicate()


def kernel(path: str, *arguments: str) -> None:
    """Be the kernel of a client: a fork that lives as long as this process does, or this process itself."""
    connection = socket.socket(socket.AF_UNIX)
    answer = ""
    with contextlib.suppress(OSError):
        connection.connect(path)
        socket.send_fds(connection, [b" "], [0, 1, 2])
        connection.sendall(json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode() + b"\n")
        answer = connection.makefile().readline()
    if not answer:
        os.execv(sys.executable, [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", *arguments])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(int(answer), number))
    connection.recv(1)  # ends with the fork


def serve(path: str, *names: str) -> None:
    """Import, then fork a kernel for everyone who asks, until standard input ends."""
    import gc
    import importlib
    import select

    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # no page is copied to be looked through
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{path}.new")
        door.listen()
        os.rename(f"{path}.new", path)
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:
            connection, _ = door.accept()
            if not os.fork():
                door.close()
                return _forked(connection)
            connection.close()


def _forked(connection) -> None:
    import threading

    import numpy as np
    from ipykernel import kernelapp

    _, descriptors, *_ = socket.recv_fds(connection, 1, 3)
    arguments, folder, values = json.loads(connection.makefile().readline())
    if any(values.get(name) != os.environ.get(name) for name in READ_AT_IMPORT):
        return
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    own, given = (each.get("PYTHONPATH", "").split(os.pathsep) for each in (os.environ, values))
    sys.path[:] = [*filter(None, given), *(place for place in sys.path[1:] if place not in own)]
    os.environ.clear()
    os.environ.update(values)
    os.chdir(folder)
    sys.argv = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    np.random.seed()  # noqa: NPY002 - else the same in every fork
    connection.sendall(f"{os.getpid()}\n".encode())
    threading.Thread(target=lambda: os._exit(1) if not connection.recv(1) else None, daemon=True).start()
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    (kernel if "-f" in sys.argv else serve)(*sys.argv[1:])
