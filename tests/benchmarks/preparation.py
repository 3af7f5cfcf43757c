"""What preparing costs: crops a second by the number of workers, their start included.

python tests/benchmarks/preparation.py data/miniforensics
python tests/benchmarks/preparation.py /data/FaceForensics++ --videos 20 --frames 64
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from addlib import faceforensics


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="FF++ tree")
    parser.add_argument("--videos", type=int, default=24, help="real videos to measure with")
    parser.add_argument("--frames", type=int, default=8, help="crops of a video")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for item in faceforensics.discover(args.tree, [])[: args.videos]:
            for path in item.files.values():
                link = folder / "tree" / path.relative_to(args.tree)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        for workers in args.workers:
            out, begin = folder / f"out{workers}", time.perf_counter()
            table = faceforensics.prepare(folder / "tree", out, frames=args.frames, workers=workers)
            seconds = time.perf_counter() - begin
            print(f"{workers} workers: {seconds:.1f} s, {table['crops'].sum() / seconds:.0f} crops a second")


if __name__ == "__main__":
    main()
