"""Throughput of the preparation, and what it saves against the obvious script.

    python tests/benchmarks/preparation.py                         a small tree is drawn first, in a temporary folder
    python tests/benchmarks/preparation.py --tree /data/FaceForensics++ --videos 20 --frames 64 --json preparation.json

The obvious script reads every quality with OpenCV's VideoCapture, detects faces with dlib after one upsampling on every sampled
frame of every quality, and writes crops as PNG files. Both run on the same videos in one process, one after the other,
video by video, so that the ratio of a video survives a busy machine; the median over videos is reported. Videos that are drawn are
MiniForensics enlarged to 640 × 360, the most frequent size in FaceForensics++, with a margin of moving texture.
Then the same videos are prepared with 1 and with 2 workers, and with three times as many videos for the memory.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import dlib
import numpy as np

from addlib import faceforensics, faces, miniforensics, video
from addlib.faceforensics.cutting import cut_video, frame_order
from addlib.faceforensics.storing import npy, write
from addlib.parallel import one_thread

SETTINGS = {"size": 128, "seed": 0, "scale": 1.3, "upsample": 0, "retry": 1, "search": 480}


def draw_tree(root, videos, frames, height=360, width=640):
    """Real videos of drawn people, height × width; the faces stay about 120 pixels wide."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (height, width + 4 * frames, 3), np.uint8), (0, 0), 3)
    for person in range(videos):
        drawn = miniforensics.render_video(11, person, person ^ 1, min(frames, 12))["original"]
        clip = []
        for index in range(frames):
            # To and fro, so that a long video needs few drawings.
            turn = index % (2 * len(drawn) - 2) if len(drawn) > 1 else 0
            face = drawn[min(turn, 2 * len(drawn) - 2 - turn) if len(drawn) > 1 else 0]
            scene = wall[:, 2 * index : 2 * index + width].copy()
            side = min(height, 360)
            face = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
            left = (width - side) // 2 + int(20 * np.sin(index / 9))
            scene[(height - side) // 2 :][:side, left : left + side] = face
            clip.append(scene)
        for quality, factor in video.QUALITIES.items():
            video.write_video(root / f"original_sequences/youtube/{quality}/videos/{person:03d}.mp4", clip, factor)
    return root


def obvious(item, frames, out):
    """Crops written by the script that one would write first."""
    detector, written = dlib.get_frontal_face_detector(), 0
    for quality, path in item.files.items():
        capture = cv2.VideoCapture(str(path))
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = set(frame_order(total, item.manipulation, item.name, 0)[:frames].tolist())
        for number in range(total):
            there, frame = capture.read()
            if not there:
                break
            if number not in wanted:
                continue
            found = detector(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), 1)
            if found:
                best = max(found, key=lambda box: box.area())
                crop = faces.crop(frame, (best.left(), best.top(), best.right() + 1, best.bottom() + 1))
                folder = out / quality / item.name
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{number:04d}.png"), crop)
                written += 1
        capture.release()
    return written


def ours(item, frames, out):
    """The task that ``prepare`` gives to a worker, without the manifest."""

    def save(quality, crops):
        write(out / quality / f"{item.name}.npy", lambda file: file.write(npy(crops)))
        return ""

    rows, _ = cut_video(item, tuple(item.files), SETTINGS | {"frames": frames}, save)
    return sum(row["crops"] for row in rows)


def compare(items, frames, out):
    """Milliseconds a crop of both, video by video, in turns; of time and of processor time, which other programs do not lengthen."""
    rows = []
    ours(items[0], 1, out / "warm")  # dlib's detector is built on first use
    for turn, item in enumerate(items):
        row = {"video": item.name}
        for name, script in ((("obvious", obvious), ("addlib", ours)), (("addlib", ours), ("obvious", obvious)))[
            turn % 2
        ]:
            begin, busy = time.perf_counter(), time.process_time()
            with one_thread():
                crops = script(item, frames, out / name)
            row[name] = 1000 * (time.perf_counter() - begin) / max(crops, 1)
            row[f"{name} cpu"] = 1000 * (time.process_time() - busy) / max(crops, 1)
            row[f"{name} crops"] = crops
        rows.append(row)
    return rows


MEASURE = """
import json, resource, sys, time
from addlib import faceforensics
if __name__ == "__main__":
    root, out, workers, frames = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    begin = time.perf_counter()
    table = faceforensics.prepare(root, out, frames=frames, workers=workers, splits={"train": [sys.argv[5].split()]})
    seconds = time.perf_counter() - begin
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds, "crops": int(table["crops"].sum()), "peak_mb": peak / 1024}))
"""


def measure(root, out, workers, frames, names):
    """One preparation in a process of its own: seconds, crops, peak memory of its largest process."""
    script = out.with_suffix(".py")
    script.write_text(MEASURE)
    command = [sys.executable, str(script), str(root), str(out), str(workers), str(frames), " ".join(names)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def some(root, names, target):
    """A tree of links to some real videos of another, each ``copies`` times under new names."""
    for number, name in names.items():
        for quality in video.QUALITIES:
            source = Path(root) / "original_sequences/youtube" / quality / "videos" / f"{name}.mp4"
            link = target / "original_sequences/youtube" / quality / "videos" / f"{number}.mp4"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.resolve())
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", help="FF++ tree with original_sequences/youtube (default: one is drawn)")
    parser.add_argument("--videos", type=int, default=6, help="videos to measure with")
    parser.add_argument("--length", type=int, default=60, help="frames of a drawn video")
    parser.add_argument("--frames", type=int, default=16, help="crops of a video")
    parser.add_argument("--size", default="640x360", help="width × height of a drawn video")
    parser.add_argument("--json", help="file for the numbers")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        width, height = map(int, args.size.split("x"))
        tree = Path(args.tree) if args.tree else draw_tree(folder / "tree", args.videos, args.length, height, width)
        items = [item for item in faceforensics.discover(tree, []) if len(item.files) == 3][: args.videos]
        rows = compare(items, args.frames, folder / "compared")
        result = {
            "videos": len(rows), "frames": args.frames, "size": args.size if not args.tree else "as they are",
            "obvious_ms_per_crop": statistics.median(row["obvious"] for row in rows),
            "addlib_ms_per_crop": statistics.median(row["addlib"] for row in rows),
            "rows": rows, "workers": {},
            "cores": os.cpu_count(), "load": os.getloadavg()[0], "machine": platform.machine(), "python": platform.python_version(),
        }  # fmt: skip
        print(f"{result['videos']} videos, {args.frames} crops of each in three qualities, {result['size']} pixels")
        for unit in ("", " cpu"):
            both = [statistics.median(row[name + unit] for row in rows) for name in ("obvious", "addlib")]
            times = [row["obvious" + unit] / row["addlib" + unit] for row in rows]
            print(
                f"{'processor time' if unit else 'time':14s}: obvious script {both[0]:6.1f} ms a crop, addlib {both[1]:6.1f} (medians over "
                f"videos); {statistics.median(times):.1f} times less, at least {min(times):.1f}"
            )
            result[f"ratio{unit.replace(' ', '_')}"], result[f"ratio{unit.replace(' ', '_')}_least"] = (
                statistics.median(times),
                min(times),
            )
        names = [item.name for item in items]
        for workers, copies in ((1, 1), (2, 1), (1, 3), (2, 3)):
            numbers = {f"{i:03d}": names[i % len(names)] for i in range(copies * len(names))}
            root = some(tree, numbers, folder / f"links-{workers}-{copies}")
            found = measure(root, folder / f"out-{workers}-{copies}", workers, args.frames, list(numbers))
            result["workers"][f"{workers} workers, {len(numbers)} videos"] = found
            hours = found["seconds"] / len(numbers) * 1000 / 3600
            print(
                f"{workers} workers, {len(numbers):3d} videos: {found['seconds']:6.1f} s, {found['crops'] / found['seconds']:6.1f} crops/s, "
                f"peak {found['peak_mb']:.0f} MB a process; 1,000 such videos take {hours:.2f} hours"
            )
        few, many = (result["workers"][f"2 workers, {n * len(names)} videos"] for n in (1, 3))
        per_video = (many["seconds"] - few["seconds"]) / (2 * len(names))
        one = (
            result["workers"][f"1 workers, {3 * len(names)} videos"]["seconds"]
            - result["workers"][f"1 workers, {len(names)} videos"]["seconds"]
        )
        print(f"without the start: {per_video:.2f} s a video with 2 workers, {one / (2 * len(names)):.2f} s with 1")
        result |= {"seconds_per_video": {"1": one / (2 * len(names)), "2": per_video}}
        if args.json:
            Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
        shutil.rmtree(folder / "compared", ignore_errors=True)


if __name__ == "__main__":
    main()
