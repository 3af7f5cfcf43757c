"""MiniForensics: what the codec does to it, and how fast it is drawn.

python tests/benchmarks/miniforensics.py codec data/miniforensics   # bit rate, PSNR against raw, faces that dlib finds
python tests/benchmarks/miniforensics.py speed                      # processor seconds a pair: drawing, and x264
"""

import sys
import tempfile
import time
from collections import defaultdict

import numpy as np

from addlib import codecs, faceforensics, faces, video
from addlib.miniforensics import MANIPULATIONS, writer
from addlib.parallel import map_unordered, one_thread


def measure(item):
    """Rows (manipulation, quality, kbit/s, mean squared error, face found) of one video; the last two of its first frame."""
    first = {quality: next(video.read_frames(path)) for quality, path in item.files.items()}
    kbits = {quality: 8 * codecs.payload(path) / 1000 for quality, path in item.files.items()}
    rate = {quality: 25 * kbits[quality] / video.VideoClip(path).total for quality, path in item.files.items()}
    error = {quality: np.mean((frame.astype(float) - first["raw"]) ** 2) for quality, frame in first.items()}
    return [(item.manipulation, q, rate[q], error[q], faces.largest_face(first[q]) is not None) for q in first]


def codec(root):
    """A table in Markdown."""
    groups = defaultdict(list)
    for rows in map_unordered(measure, faceforensics.discover(root), describe="videos measured"):
        for manipulation, quality, *values in rows:
            groups[manipulation, quality].append(values)
    print("| manipulation | quality | kbit/s | PSNR, dB | faces found |\n| --- | --- | --- | --- | --- |")
    for (manipulation, quality), values in sorted(groups.items()):
        rate, error, found = np.mean(values, axis=0)
        psnr = 10 * np.log10(255**2 / error) if error else np.inf
        print(f"| {manipulation} | {quality} | {rate:,.0f} | {psnr:.1f} | {found:.3f} |")


def speed(pairs=9):
    """Of eight pairs after a first, the smallest: a busy machine only ever adds."""
    write, encoding, best = video.write_video, 0.0, (np.inf, np.inf)

    def timed(*arguments):
        nonlocal encoding
        start = time.process_time()
        write(*arguments)
        encoding += time.process_time() - start

    video.write_video = timed
    with tempfile.TemporaryDirectory() as folder, one_thread():
        for number, pair in enumerate(writer.pairs(200)[:pairs]):
            start, encoding = time.process_time(), 0.0
            writer.write_pair((folder, 0, pair, 8, tuple(MANIPULATIONS)))
            if number:
                best = min(best[0], time.process_time() - start - encoding), min(best[1], encoding)
    print(f"a pair: {best[0]:.3f} s drawing, {best[1]:.3f} s x264")


if __name__ == "__main__":
    {"codec": codec, "speed": speed}[sys.argv[1]](*sys.argv[2:])
