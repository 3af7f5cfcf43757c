"""Images a second that the ways of loading give, beside what a training step takes.

    python tests/benchmarks/loading.py data/crops/miniforensics
    python tests/benchmarks/loading.py data/crops/FaceForensics++ --device cuda --json loading-cuda.json

An image is one pair, raw and compressed. Every way gives the same batches, shuffled, mirrored, scaled to -1 … 1, on the device.
The ways take turns, and the table gives medians over epochs. The step is forward and backward of one detector on the compressed
crops; loading that is faster than it costs nothing where it runs beside it (DataLoader's workers), and its own time where it does not.
"""

import argparse
import json
import os
import statistics
import time

import torch
from torch import nn

from addlib.detectors import create_detector
from addlib.faceforensics import FacePairs, ResidentPairs, batches

NORMAL = (0.5, 0.5)


def clock(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def epoch(source, device, limit):
    """(images, seconds) of at most ``limit`` images."""
    begin, images = clock(device), 0
    for raw, _, _ in source:
        images += len(raw)
        if images >= limit:
            break
    return images, clock(device) - begin


def step_time(model, raw, labels, device, repeats):
    """Seconds of one forward and backward pass."""
    seconds = []
    for _ in range(repeats):
        begin = clock(device)
        nn.functional.cross_entropy(model(raw).logits, labels).backward()
        seconds.append(clock(device) - begin)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="prepared folder")
    parser.add_argument("--manipulation", default="NeuralTextures")
    parser.add_argument("--quality", default="c40")
    parser.add_argument("--split", default="train")
    parser.add_argument("--batch", type=int, default=144)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--detector", default="resnet18")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000, help="most images of an epoch that are measured")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--json", help="file for the numbers")
    args = parser.parse_args()
    names = (args.manipulation, args.quality, args.split)
    pairs = FacePairs(args.out, *names)
    begin = clock(args.device)
    resident = ResidentPairs(args.out, *names, device=args.device)
    filled = clock(args.device) - begin
    settings = {"flip": 0.5, "normalise": NORMAL}
    ways = {f"resident on {args.device}": lambda e: resident.batches(args.batch, epoch=e, **settings)}
    for workers in args.workers:
        ways[f"DataLoader, {workers} workers"] = lambda e, w=workers: batches(
            pairs, args.batch, epoch=e, workers=w, device=args.device, **settings
        )
    rates = {way: [] for way in ways}
    for number in range(args.epochs):
        for way, source in ways.items():
            images, seconds = epoch(source(number), args.device, args.images)
            rates[way].append(images / seconds)
    medians = {way: statistics.median(rate) for way, rate in rates.items()}
    model = create_detector(args.detector).to(args.device)
    raw, _, labels = next(resident.batches(args.batch, **settings))
    step = step_time(model, raw, labels, args.device, 3 if args.device == "cpu" else 20)
    print(f"{len(pairs)} pairs, {resident.nbytes / 1e6:.0f} MB resident, filled in {filled:.2f} s; batch {args.batch}")
    for way, rate in medians.items():
        print(
            f"{way:24s} {rate:9.0f} images/s, {1000 * args.batch / rate:8.2f} ms a batch, {args.batch / rate / step:6.1%} of a step"
        )
    print(f"{'step, ' + args.detector:24s} {args.batch / step:9.0f} images/s, {1000 * step:8.2f} ms a batch")
    if args.json:
        result = {
            "pairs": len(pairs),
            "batch": args.batch,
            "device": args.device,
            "images_per_second": medians,
            "step_ms": 1000 * step,
        }
        result |= {"detector": args.detector, "fill_seconds": filled, "nbytes": resident.nbytes}
        result |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "torch": torch.__version__}
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
