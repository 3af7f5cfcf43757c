"""What a step of a student costs beyond its networks, and against a plain loop of the published kind.

    python tests/benchmarks/training.py data/crops/miniforensics                          CPU: resnet18_narrow, batch 32
    python tests/benchmarks/training.py data/crops/miniforensics --detector resnet50 --batch 144 --plain --json training.json

Three loops over the same crops, in turn, ``--rounds`` times; the table gives medians over steps and the ratios of a round.

bare    a batch already in memory: teacher forward, student forward and backward, cross-entropy and optimiser
full    the training of addlib: Lightning, the loader, mirroring, window and scaling of crops, ADD, checks and logs
plain   (with ``--plain``) float32, PNG files through a DataLoader, no channels-last, the published form of the losses as in
        losses.py, and .item() in every step

On a CPU the time is that of the processor divided by the threads: what else runs on the machine counts less.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import lightning
import losses as published
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from addlib import provenance
from addlib.detectors import create_detector
from addlib.faceforensics import FacePairs
from addlib.faceforensics.pairs import normalised
from addlib.training import Recipe, autocast, create_distiller
from addlib.training.engine import EpochLoader, Hardware, TrainingTask, frozen_copy, trainer_options, undisturbed

TARGETS = {"cpu": {"bare": 0.85}, "cuda": {"bare": 0.95, "plain": 4.0}}  # time against that of the full step


def networks(name, device, memory_format=torch.channels_last):
    torch.manual_seed(0)
    student, teacher = (create_detector(name).to(device, memory_format=memory_format) for _ in range(2))
    return student, teacher.eval().requires_grad_(False)


def now(device):
    """Seconds, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


def bare(arguments, pairs, hardware):
    """Moments at which steps on a batch in memory end."""
    student, teacher = networks(arguments.detector, arguments.device)
    *crops, labels = next(pairs.batches(arguments.batch))
    raw, compressed = (normalised(side, 0.5, 0.5) for side in crops)
    optimizer = torch.optim.Adam(student.parameters(), 2e-4)
    yield now(arguments.device)
    while True:
        optimizer.zero_grad()
        with autocast(arguments.device, hardware.precision):
            with torch.no_grad():
                teacher(raw)
            loss = functional.cross_entropy(student(compressed).logits.float(), labels)
        loss.backward()
        optimizer.step()
        yield now(arguments.device)


class Clock(lightning.Callback):
    """The moments at which steps end. A GPU is not waited for in every step: that would hide what runs beside it."""

    def __init__(self, device):
        self.device, self.moments = device, []

    def on_train_batch_end(self, *_):
        self.moments.append(time.perf_counter() if self.device == "cuda" else now("cpu"))

    def on_train_end(self, *_):
        self.moments[-1] = now(self.device)


def full(arguments, pairs, hardware):
    """Moments at which steps of addlib's training end, data and logs included."""
    student, teacher = networks(arguments.detector, arguments.device)
    recipe, steps = Recipe.named("paper", batch_size=arguments.batch, epochs=1), arguments.steps + arguments.warm_up
    with torch.no_grad():
        nothing = torch.zeros(2, 3, 128, 128, device=arguments.device)
        answers = [network.eval()(nothing) for network in (student, teacher)]
    teacher, distiller = frozen_copy(teacher, hardware.precision), create_distiller("add", *answers)
    task = TrainingTask(student.train(), recipe, teacher=teacher, distiller=distiller)
    clock = Clock(arguments.device)
    with undisturbed(hardware), tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            **trainer_options(hardware), max_epochs=-1, max_steps=steps, limit_val_batches=0, callbacks=[clock],
            logger=lightning.pytorch.loggers.CSVLogger(folder), enable_checkpointing=False, enable_progress_bar=False,
        )  # fmt: skip
        trainer.fit(task, EpochLoader(pairs, arguments.batch, flip=0.5))
    if arguments.device == "cuda":
        whole = (clock.moments[-1] - clock.moments[arguments.warm_up - 1]) / arguments.steps
        return [number * whole for number in range(steps + 1)]
    return [clock.moments[0], *clock.moments]


class Files(Dataset):
    """Pairs of PNG files, as many as a loop needs."""

    def __init__(self, pairs, folder, count):
        self.folder, self.labels = folder, [int(pairs.labels[index % len(pairs)]) for index in range(count)]
        for index, side in itertools.product(range(count), (0, 1)):
            crop = pairs[index % len(pairs)][side].permute(1, 2, 0).cpu().numpy()
            cv2.imwrite(f"{folder}/{index}-{side}.png", crop[..., ::-1])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        crops = [cv2.imread(f"{self.folder}/{index}-{side}.png")[..., ::-1].copy() for side in (0, 1)]
        return *(torch.from_numpy(crop).permute(2, 0, 1).float() / 127.5 - 1 for crop in crops), self.labels[index]


def plain(arguments, pairs, hardware):
    """Moments at which steps of a loop of the published kind end."""
    student, teacher = networks(arguments.detector, arguments.device, torch.contiguous_format)
    optimizer = torch.optim.Adam(student.parameters(), 2e-4)
    weights = [(0, 0), *((fr, mv) for _, _, fr, mv in published.STAGES)]
    with tempfile.TemporaryDirectory() as folder:
        files = Files(pairs, folder, (arguments.steps + arguments.warm_up) * arguments.batch)
        pinned = {"num_workers": arguments.workers, "pin_memory": arguments.device == "cuda"}
        yield now(arguments.device)
        for batch in DataLoader(files, arguments.batch, shuffle=True, **pinned):
            raw, compressed, labels = (part.to(arguments.device) for part in batch)
            with torch.no_grad():
                target = teacher(raw)
            answer = student(compressed)
            loss = functional.cross_entropy(answer.logits, labels)
            drawn = published.draw_pairs(labels)
            directions = published.random_directions(published.VIEWS, device=arguments.device)
            for own, other, (fr, mv) in zip(answer.stages, target.stages, weights, strict=True):
                if fr:
                    loss = loss + fr * published.plain_frequency(own, other)
                if mv:
                    loss = loss + 16 * mv * published.plain_multi_view(own, other, drawn, directions)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            yield now(arguments.device)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", help="a folder that addlib prepare wrote")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--detector", help="default: resnet50 on a GPU, resnet18_narrow on a CPU")
    parser.add_argument("--batch", type=int, help="pairs (default: 144 on a GPU, 32 on a CPU)")
    parser.add_argument("--steps", type=int, default=20, help="measured in every round")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="readers of the plain loop")
    parser.add_argument("--plain", action="store_true", help="the plain loop too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    usual = ("resnet50", 144) if arguments.device == "cuda" else ("resnet18_narrow", 32)
    arguments.detector, arguments.batch = arguments.detector or usual[0], arguments.batch or usual[1]
    torch.set_num_threads(arguments.threads)
    pairs = FacePairs(arguments.crops, "NeuralTextures", "c40", "train", device=arguments.device)
    hardware = Hardware.choose("gpu" if arguments.device == "cuda" else "cpu")
    device = provenance.device(arguments.device)
    print(f"{device}, {arguments.detector}, batch {arguments.batch}, {hardware.precision}, {arguments.threads} threads")

    found = {loop.__name__: [] for loop in (bare, full, plain)[: 2 + arguments.plain]}
    for _, name in itertools.product(range(arguments.rounds), found):
        moments = itertools.islice(globals()[name](arguments, pairs, hardware), arguments.steps + arguments.warm_up + 1)
        steps = [after - before for before, after in itertools.pairwise(moments)]
        found[name].append(statistics.median(steps[arguments.warm_up :]))
    rows, base = {}, statistics.median(found["full"])
    for name, seconds in found.items():
        rounds = [one / full for one, full in zip(seconds, found["full"], strict=True)]
        middle = statistics.median(seconds)
        speed = arguments.batch / middle
        rows[name] = {"ms": 1000 * middle, "images_per_s": speed, "against_full": middle / base, "rounds": rounds}
        each = " ".join(f"{value:.2f}" for value in rounds)
        print(f"{name:8} {1000 * middle:9.1f} ms {speed:8.0f} images/s {middle / base:6.2f} of full ({each})")
        if target := TARGETS[arguments.device].get(name):
            print(f"{name}: target {target}, {'reached' if middle / base >= target else 'missed'}")
    if arguments.json:
        about = {name: str(value) for name, value in vars(arguments).items()}
        about |= provenance.record(Path(__file__).resolve().parents[2], arguments.device)
        arguments.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
