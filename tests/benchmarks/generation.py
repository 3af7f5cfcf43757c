"""Time to draw MiniForensics: frames a second, and the ratio to another generator's script run in turn with it.

    python tests/benchmarks/generation.py --against "python gen.py {out} {people} {frames} {workers}" --out generation.json

A frame counts once, though it is encoded three times. The other command is told where to write, how many people, frames and workers.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = "{python} -m addlib.cli generate {out} --people {people} --frames {frames} --workers {workers}"


def seconds(command, settings):
    """Wall time of one whole run into an empty folder, and the number of video files that it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        line = command.format(out=Path(folder) / "data", python=sys.executable, **settings)
        start = time.perf_counter()
        subprocess.run(shlex.split(line), check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start, len(list(Path(folder).rglob("*.mp4")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", help="command of another generator, with {out} {people} {frames} {workers}")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    settings = {"people": args.people, "frames": args.frames, "workers": args.workers}
    commands = {"addlib": OURS} | ({"other": args.against} if args.against else {})
    runs = {name: [] for name in commands}
    for _ in range(args.repeats):  # in turn, so that a drifting machine meets both alike
        for name, command in commands.items():
            runs[name].append(seconds(command, settings))
    result = {"settings": settings}
    for name, times in runs.items():
        files = times[0][1]
        result[name] = {
            "seconds": [t for t, _ in times],
            "frames a second": files / 3 * args.frames / statistics.median(t for t, _ in times),
        }
        print(
            f"{name}: {files} files, median {statistics.median(t for t, _ in times):.1f} s, {result[name]['frames a second']:.1f} frames a second"
        )
    if args.against:
        ratios = [b / a for (a, _), (b, _) in zip(runs["addlib"], runs["other"], strict=True)]
        result["ratio"] = ratios
        print(f"the other takes {statistics.median(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})")
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
