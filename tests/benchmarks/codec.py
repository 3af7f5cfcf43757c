"""What the codec does to a data set: bit rate, PSNR against raw, and how often dlib still finds the face.

    python tests/benchmarks/codec.py data/miniforensics --out codec.json

Every video counts for the bit rate; PSNR and detection are measured on the first frame of each.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from addlib import faceforensics, faces, video
from addlib.parallel import map_unordered


def measure(item):
    """Rows (manipulation, quality, kbit/s, mean squared error, face found) of one video."""
    first = {quality: next(video.read_frames(path)) for quality, path in item.files.items()}
    frames = sum(1 for _ in video.read_frames(item.files["raw"]))
    return [
        (
            item.manipulation,
            quality,
            item.files[quality].stat().st_size * 8 / 1000 / (frames / 25),
            float(np.mean((frame.astype(float) - first["raw"]) ** 2)),
            faces.largest_face(frame) is not None,
        )
        for quality, frame in first.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="FF++ tree")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    groups = defaultdict(list)
    for rows in map_unordered(measure, faceforensics.discover(args.root), workers=args.workers):
        for manipulation, quality, *values in rows:
            groups[manipulation, quality].append(values)
    print("| manipulation | quality | kbit/s | PSNR, dB | faces found |\n| --- | --- | --- | --- | --- |")
    table = []
    for (manipulation, quality), values in sorted(groups.items()):
        rate, error, found = np.mean(values, axis=0)
        psnr = 10 * np.log10(255**2 / error) if error else float("inf")
        table.append(
            {
                "manipulation": manipulation,
                "quality": quality,
                "kbit/s": rate,
                "psnr": psnr,
                "found": found,
                "videos": len(values),
            }
        )
        print(f"| {manipulation} | {quality} | {rate:,.0f} | {psnr:.1f} | {found:.3f} |")
    if args.out:
        Path(args.out).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
