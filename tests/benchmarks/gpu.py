"""All that a borrowed GPU is needed for, in one command and within its minutes: tests, losses, training steps, rows, chapters.

    python tests/benchmarks/gpu.py --minutes 14 out                            with a GPU
    python tests/benchmarks/gpu.py --minutes 14 --only protocol systems -- out     two of its steps
    python tests/benchmarks/gpu.py --device cpu --steps 2 --minutes 20 out     a rehearsal: the same commands, cut short

It needs the crops of ``make data``, for the protocol's grids, ``beyond`` and ``systems`` also those of ``make test-people``, and
for ``beyond`` those of ``make more-people``.
Every step writes its log into the folder ``out``, and benchmarks write JSON; a step that fails or runs out of time is named at
the end and the next one starts. Rows go to data/results as they come, and the same command another time adds what is missing.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from addlib.parallel import allotted_processes

# In the order of their worth. A small network leaves a GPU idle most of the time, so one training a core shares it.
GRIDS = (
    "protocol", "protocol-parts", "search", "ablation", "protocol-c23", "beyond", "systems",
    "reader-table2", "reader-table1", "reader-figure5", "reader-table3",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def steps(device: str, crops: str, cut: int | None, out: Path, workers: int = 1) -> list[tuple[str, float, list[str]]]:
    """Name, the share of the minutes left that it may take, and the command."""
    here, short, batch = ROOT / "tests" / "benchmarks", device == "cpu", "16" if device == "cpu" else "144"
    tests = ["tests/losses", "tests/detectors", "tests/training"]
    losses = [f"{here}/losses.py", "--device", device, "--batch", batch, "--json", f"{out}/losses.json"]
    training = [f"{here}/training.py", crops, "--device", device, "--batch", batch, "--plain"]
    training += ["--json", f"{out}/training.json", *(["--steps", str(cut), "--rounds", "1"] if cut else [])]
    options = ["--workers", str(workers), *["--limit", "0"] * short]
    sweeps = [(grid, 0.5, ["-m", "addlib.cli", "sweep", grid, *options]) for grid in GRIDS]
    builder = [
        "book/builder",
        "--profile",
        "smoke" if short else "reader",
        "execute",
        *["01-what-compression-takes-away"] * short,
    ]
    return [
        (
            "tests",
            0.3,
            ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", device, *(tests[:1] if short else tests)],
        ),
        ("losses", 0.2, losses),
        ("training", 0.3, training),
        *sweeps,
        ("chapters", 1.0, builder),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of logs and JSON")
    parser.add_argument("--minutes", type=float, default=14, help="in all; default: %(default)s")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="default: all")
    parser.add_argument("--workers", type=int, default=allotted_processes(), help="trainings at once; default: %(default)s")
    parser.add_argument("--crops", default="data/crops/miniforensics", help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="of a training that are timed; default: as the benchmark has it")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    end, failed = time.monotonic() + 60 * arguments.minutes, []
    out, chosen = arguments.out.resolve(), arguments.only
    every = steps(arguments.device, arguments.crops, arguments.steps, out, arguments.workers)
    if unknown := set(chosen or ()) - {name for name, *_ in every}:
        parser.error(f"no step {sorted(unknown)}; there are {[name for name, *_ in every]}")
    for name, share, command in every:
        if chosen and name not in chosen:
            continue
        begun, log = time.monotonic(), arguments.out / f"{name}.log"
        limit = max(share * (end - begun), 1.0)
        print(f"== {name}: at most {limit:.0f} s", flush=True)
        with log.open("w") as file:
            command = [sys.executable, *command]
            with subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True) as process:
                try:
                    code = process.wait(limit)
                except subprocess.TimeoutExpired:
                    code = "no time left"
                finally:
                    if process.poll() is None:  # also when interrupted: its workers would go on using the GPU
                        os.killpg(process.pid, signal.SIGKILL)
        print("\n".join(log.read_text(errors="replace").splitlines()[-12:]))
        print(f"-- {name}: {time.monotonic() - begun:.0f} s, exit {code}", flush=True)
        failed += [name] * (code != 0)
    print(f"not whole: {', '.join(failed)}" if failed else "all steps are done")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
