"""How hard is the data? Train a small detector on crops of one manipulation and quality; report accuracy on unseen identities.

    python tests/benchmarks/learnability.py data/crops/miniforensics --split val --out data/results/learnability.csv

One run is a ResNet-18 of 24 to 192 channels, 8 epochs, AdamW, random crop and mirror, the last epoch kept: nothing is selected.
Probes look for leaks, things that tell real from fake without the manipulation's own traces: ``background`` hides the face,
``lowpass`` keeps 16×16 pixels of it, ``brightness`` keeps one mean colour a crop.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from addlib import provenance
from addlib.detectors import create_detector
from addlib.faceforensics import MANIPULATIONS, FacePairs, data_hash

PROBES = ("none", "background", "lowpass", "brightness")


def look(crops, probe):
    """Float crops in -1…1 as the probe lets them through; crops uint8 (N, 3, H, W)."""
    x = crops.float().div(127.5).sub(1)
    if probe == "background":
        # Everything that a manipulation may touch lies inside this ellipse of the crop.
        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, x.shape[2]), torch.linspace(-1, 1, x.shape[3]), indexing="ij"
        )
        x = x * ((columns / 0.84) ** 2 + ((rows - 0.05) / 0.98) ** 2 > 1)
    elif probe == "lowpass":
        x = nn.functional.interpolate(nn.functional.adaptive_avg_pool2d(x, 16), x.shape[2:], mode="bilinear")
    elif probe == "brightness":
        x = x.mean((2, 3), keepdim=True).expand_as(x)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def score(model, crops, probe):
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([model(look(part, probe)).logits.float().softmax(1)[:, 1] for part in crops.split(64)]).numpy()


def run(job):
    """One training; job = (folder, manipulation, quality, seed, split, probe, epochs). Returns a row of results."""
    folder, manipulation, quality, seed, split, probe, epochs = job
    torch.set_num_threads(1)
    start = time.perf_counter()
    _, train, labels = FacePairs(folder, manipulation, quality, "train").arrays()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = create_detector("resnet18_narrow").to(memory_format=torch.channels_last)
    batch, margin = 32, 8
    steps = len(train) // batch
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * steps, pct_start=0.2)
    for _ in range(epochs):
        model.train()
        order = rng.permutation(len(train))
        for step in range(steps):
            index = torch.from_numpy(order[step * batch : (step + 1) * batch])
            y, x = rng.integers(0, margin + 1, 2)
            crops = look(train[index], probe)[:, :, y : y + 128 - margin, x : x + 128 - margin]
            if rng.random() < 0.5:
                crops = crops.flip(-1)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(crops).logits.float()
            loss = nn.functional.cross_entropy(logits, labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    data = FacePairs(folder, manipulation, quality, split)
    _, held, truth = data.arrays()
    scores, truth = score(model, held[:, :, 4:124, 4:124], probe), truth.numpy()
    row = {
        "manipulation": manipulation,
        "quality": quality,
        "probe": probe,
        "seed": seed,
        "split": split,
        "images": len(truth),
    }
    row |= {
        "accuracy": float(((scores > 0.5) == truth).mean()),
        "auc": float(roc_auc_score(truth, scores)),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="prepared crops")
    parser.add_argument("--manipulations", nargs="+", default=list(MANIPULATIONS))
    parser.add_argument("--qualities", nargs="+", default=["raw", "c23", "c40"])
    parser.add_argument("--probes", nargs="+", default=["none"], choices=PROBES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--out", help="CSV file for the rows, such as data/results/learnability.csv; rows of other runs in it stay"
    )
    args = parser.parse_args()
    jobs = [
        (args.folder, manipulation, quality, seed, args.split, probe, args.epochs)
        for manipulation, quality, probe, seed in product(args.manipulations, args.qualities, args.probes, args.seeds)
    ]
    origin = provenance.record(Path(__file__).resolve().parents[2])
    versions = origin.pop("versions")
    origin |= {"data": data_hash(args.folder), "epochs": args.epochs} | {
        name: versions[name] for name in ("torch", "opencv", "av")
    }
    with ProcessPoolExecutor(args.workers) as pool:
        for row in pool.map(run, jobs):
            print(" ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
            if args.out:
                save(Path(args.out), row | origin)


def save(path, row):
    """Add a row to the table, or put it in the place of an earlier one of the same run."""
    same = ["manipulation", "quality", "probe", "seed", "split", "data", "epochs"]
    table = pd.DataFrame([row])
    if path.exists():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True).drop_duplicates(same, keep="last")
    table = table.sort_values(same)
    part = path.with_suffix(".part")
    table.round({"accuracy": 4, "auc": 4}).to_csv(part, index=False, lineterminator="\n")
    part.replace(path)


if __name__ == "__main__":
    main()
