"""What preparing costs: processor time of a video, and seconds of a whole preparation by the number of workers.

    python tests/benchmarks/preparation.py data/miniforensics
    python tests/benchmarks/preparation.py /data/FaceForensics++ --videos 20 --frames 64

Processor time is the least of three tries, so that other programs hardly count. The workers' seconds hold their start.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from addlib import faceforensics
from addlib.faceforensics.cutting import cut_video
from addlib.parallel import one_thread

SETTINGS = {"size": 128, "seed": 0, "scale": 1.3, "upsample": 0, "retry": 1, "search": 480}


def milliseconds(item, frames):
    """Of the processor, for the crops of one video in all its qualities."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        cut_video(item, tuple(item.files), SETTINGS | {"frames": frames}, lambda quality, crops: "")
        times.append(time.process_time() - begin)
    return 1000 * min(times)


def links(items, root, target):
    """A tree of links to some videos of another."""
    for path in (path for item in items for path in item.files.values()):
        link = target / path.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="FF++ tree")
    parser.add_argument("--videos", type=int, default=24, help="real videos to measure with")
    parser.add_argument("--frames", type=int, default=8, help="crops of a video")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    items = [item for item in faceforensics.discover(args.tree, []) if "raw" in item.files][: args.videos]
    with one_thread():
        milliseconds(items[0], 1)  # dlib's detector is built on first use
        each = sorted(milliseconds(item, args.frames) for item in items)
    print(f"{len(items)} videos: {each[len(each) // 2]:.0f} ms of processor time a video (median), at most {each[-1]:.0f}")
    with tempfile.TemporaryDirectory() as folder:
        root = links(items, args.tree, Path(folder) / "tree")
        for workers in args.workers:
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = faceforensics.prepare(root, Path(folder) / f"out{workers}", frames=args.frames, workers=workers)
            seconds = time.perf_counter() - begin
            print(f"{workers} workers: {seconds:.1f} s, {table['crops'].sum() / seconds:.0f} crops a second")


if __name__ == "__main__":
    main()
