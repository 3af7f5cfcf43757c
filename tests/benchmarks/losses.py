"""Time and memory of the ADD losses against a plain implementation of the published form, forward and backward.

    python tests/benchmarks/losses.py                          CPU, batch 144, the three weighted stages of ResNet-50
    python tests/benchmarks/losses.py --device cuda --json losses-cuda.json
    python tests/benchmarks/losses.py --batch 16 --repeats 5   quicker, for development

The plain form does what the published code does, in the most direct way that torch offers: complex transforms of both
maps; a loop over views, in each of which the projected grid is sorted, and the mass of both maps accumulated and cut at
the bin edges once for each of three pairings. Plain and fast runs alternate within one process; the table gives medians.
On one CPU thread time is processor time, so that a busy machine does not matter. Peak memory is what torch's allocator
holds at most, the gradient included, beyond the maps. "floor" is the time that reading both maps twice and writing one
gradient takes at the bandwidth of a copy measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from addlib.losses import ADDLoss, draw_pairs, frequency_attention_loss, multi_view_attention_loss, random_directions

# Stages of ResNet-50 at 128 px that the published code gives a weight: (channels, side, FR weight, MV weight).
STAGES = ((512, 16, 1.0, 0.5), (1024, 8, 2.0, 2.5), (2048, 4, 0.25, 2.0))
BETA, VIEWS, GAMMA, ETA, MARGIN = 16.0, 12, 100.0, 50.0, 0.012
TARGETS = {"cpu": 15, "cuda": 30}


def plain_frequency(student: Tensor, teacher: Tensor, gamma: float = 1.0) -> Tensor:
    """Eq. 1-3 with a complex transform of each map."""
    difference = torch.fft.fft2(student, norm="forward") - torch.fft.fft2(teacher, norm="forward")
    distance = difference.real**2 + difference.imag**2
    weight = torch.exp(gamma * distance.mean(1, keepdim=True)).detach()
    return (weight * distance).sum((1, 2, 3)).mean()


def plain_cuts(shape: torch.Size, direction: Tensor, bins: int) -> Tensor:
    """Positions in the sorted projections of the grid where the bins of equal width end, but for the last bin."""
    sizes = [torch.arange(size, device=direction.device, dtype=direction.dtype) for size in shape]
    grid = torch.stack(torch.meshgrid(*sizes, indexing="ij"), -1).flatten(0, 2)
    projections = torch.sort(grid @ direction).values
    edges = torch.linspace(0, 1, bins + 1, device=grid.device)[1:-1] * (projections[-1] - projections[0])
    return torch.searchsorted(projections, edges + projections[0])


def plain_vector(mass: Tensor, cuts: Tensor) -> Tensor:
    """Mass between neighbouring cuts, accumulated in raster order; what lies beyond the last cut is dropped."""
    accumulated = torch.cumsum(mass, 1)[:, cuts]
    return torch.diff(accumulated, dim=1, prepend=torch.zeros_like(accumulated[:, :1]))


def plain_multi_view(
    student: Tensor, teacher: Tensor, pairs: tuple[Tensor, Tensor], directions: Tensor, margin: float = MARGIN
) -> Tensor:
    """Eq. 9: every view cuts both maps of every pairing."""
    squares = [features.flatten(1) ** 2 for features in (student, teacher)]
    own, others = (square / square.sum(1, keepdim=True) for square in squares)
    pairings = [others, others[pairs[0]], others[pairs[1]]]
    distances = [student.new_zeros(len(student)) for _ in pairings]
    for direction in directions.to(student.dtype):
        cuts = plain_cuts(student.shape[1:], direction, student.shape[1] // 2)
        for i, partner in enumerate(pairings):
            apart = (plain_vector(own, cuts) - plain_vector(partner, cuts)).square().sum(1)
            distances[i] = distances[i] + apart / len(directions)
    itself, same, other = distances
    return (GAMMA * itself + ETA * (same + torch.clamp(margin - other, min=0))).mean()


class Setting:
    """Maps of all stages, and everything random, fixed, so that both implementations get the same work."""

    def __init__(self, batch: int, views: int, device: str, stages=STAGES) -> None:
        generator = torch.Generator().manual_seed(0)
        self.stages, self.views = stages, views
        self.labels = (torch.arange(batch) % 2).to(device)
        self.pairs = draw_pairs(self.labels, generator=generator)
        sizes = [(batch, channels, side, side) for channels, side, _, _ in stages]
        made = [[torch.randn(size, generator=generator).relu_().to(device) for _ in range(2)] for size in sizes]
        self.maps = [(student.requires_grad_(), teacher) for student, teacher in made]
        self.directions = random_directions(views, generator=generator, device=device)

    def step(self, kind: str, name: str, stages: tuple[int, ...]) -> None:
        """One forward and backward pass of FR or MV of a stage, or of ADD over several.

        The fast form draws its own directions and pairs: what a training step pays for.
        """
        student, teacher = zip(*(self.maps[stage] for stage in stages), strict=True)
        weights = [
            [self.stages[stage][column] if name in (term, "ADD") else 0 for stage in stages]
            for column, term in ((2, "FR"), (3, "MV"))
        ]
        for features in student:
            features.grad = None
        if kind == "fast":
            loss = ADDLoss(*weights, beta=BETA, views=self.views)(student, teacher, self.labels)
        else:
            loss = 0
            for own, other, fr, mv in zip(student, teacher, *weights, strict=True):
                loss = loss + (fr * plain_frequency(own, other) if fr else 0)
                loss = loss + (BETA * mv * plain_multi_view(own, other, self.pairs, self.directions) if mv else 0)
        loss.backward()

    def bytes_of_maps(self, stages: tuple[int, ...]) -> int:
        return sum(tensor.numel() * tensor.element_size() for stage in stages for tensor in self.maps[stage])


def timed(action: Callable[[], None], device: str) -> float:
    """Milliseconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) * 1e3


def copy_bandwidth(device: str) -> float:
    """Bytes read and written in a second by a copy of a large tensor, the best of several."""
    source = torch.ones(2**26 if device == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    best = min(timed(lambda: target.copy_(source), device) for _ in range(12))
    return 2 * source.numel() * source.element_size() / (best / 1e3)


def peak_memory(action: Callable[[], None], device: str) -> int:
    """Bytes that torch's allocator holds at most during an action, beyond what it held before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    now = peak = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def training_step(batch: int, device: str, repeats: int) -> float:
    """Milliseconds of one bare training step of ResNet-50 at 128 px: forward, cross-entropy, backward, Adam."""
    from torchvision.models import resnet50

    model = resnet50(num_classes=2).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    images, labels = torch.randn(batch, 3, 128, 128, device=device), torch.arange(batch, device=device) % 2

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()

    return statistics.median([timed(step, device) for _ in range(3 + repeats)][3:])


def agreement(setting: Setting) -> dict[str, float]:
    """Largest relative difference between plain and fast values, where both compute the same thing.

    Without the hinge, which is of the mean over views in the plain form, of every view in the published one.
    """
    ways = [torch.full((setting.views, 2, len(pair)), -1, device=pair.device) for pair in setting.pairs]
    for way, pair in zip(ways, setting.pairs, strict=True):
        way[:, 0] = pair  # student against the teacher's pairs only
    options = {"directions": setting.directions, "pairs": tuple(ways), "margin": 0, "variant": "published"}
    worst = {"FR": 0.0, "MV": 0.0}
    with torch.no_grad():
        for maps in setting.maps:
            first, second = plain_frequency(*maps), frequency_attention_loss(*maps)
            worst["FR"] = max(worst["FR"], abs(float(second / first) - 1))
            first = plain_multi_view(*maps, setting.pairs, setting.directions, margin=0)
            worst["MV"] = max(worst["MV"], abs(float(multi_view_attention_loss(*maps, None, **options) / first) - 1))
    return worst


def measure(arguments: argparse.Namespace) -> dict:
    device, every = arguments.device, tuple(range(len(STAGES)))
    setting, small = Setting(arguments.batch, arguments.views, device), Setting(4, 2, device)
    cases = [(name, (stage,)) for name in ("FR", "MV") for stage in every] + [("ADD", every)]
    for kind in ("plain", "fast"):
        small.step(kind, "ADD", every)
    setting.step("fast", "ADD", every)
    bandwidth = copy_bandwidth(device)
    times: dict[tuple, list[float]] = {(kind, *case): [] for case in cases for kind in ("plain", "fast")}
    for _ in range(arguments.repeats):
        for case in cases:
            for kind in ("plain", *("fast",) * arguments.fast_repeats):
                times[kind, *case].append(timed(lambda kind=kind, case=case: setting.step(kind, *case), device))
    medians = {key: statistics.median(values) for key, values in times.items()}
    for name in ("FR", "MV"):  # in all: sums of their stages
        for kind in ("plain", "fast"):
            medians[kind, name, every] = sum(medians[kind, name, (stage,)] for stage in every)
    rows = []
    for name, stages in [*cases[:-1], ("FR", every), ("MV", every), ("ADD", every)]:
        plain, fast = medians["plain", name, stages], medians["fast", name, stages]
        where = "all" if len(stages) > 1 else "{0}x{1}x{1}".format(*STAGES[stages[0]][:2])
        floor = 2.5 * setting.bytes_of_maps(stages) / bandwidth * 1e3  # both maps twice and one gradient: five maps
        row = {"loss": name, "stage": where, "plain_ms": plain, "fast_ms": fast, "ratio": plain / fast}
        row |= {"floor_ms": floor, "over_floor": fast / floor}
        if not arguments.no_memory and (name, stages) in cases:
            for kind in ("plain", "fast"):
                for student, _ in setting.maps:
                    student.grad = None
                peak = peak_memory(lambda kind=kind, case=(name, stages): setting.step(kind, *case), device)
                row[f"{kind}_memory"] = peak / setting.bytes_of_maps(stages)
        rows.append(row)
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "kind": device, "torch": torch.__version__, "threads": torch.get_num_threads(), "load": os.getloadavg()[0],
        "batch": arguments.batch, "views": arguments.views, "repeats": arguments.repeats,
        "copy_bandwidth_gb_s": bandwidth / 1e9, "agreement": agreement(small), "rows": rows,
    }  # fmt: skip
    if device == "cuda" or arguments.step:
        result["resnet50_step_ms"] = training_step(arguments.batch, device, 20 if device == "cuda" else 2)
        result["add_share_of_step"] = medians["fast", "ADD", every] / result["resnet50_step_ms"]
    return result


def show(result: dict) -> None:
    print(
        "{device}, torch {torch}, {threads} threads, load {load:.1f}; batch {batch}, {views} views, forward + backward, "
        "medians of {repeats}; copy {copy_bandwidth_gb_s:.1f} GB/s".format(**result)
    )
    print("loss         stage   plain ms   fast ms   ratio  x floor  memory beyond the maps, in multiples of both")
    for row in result["rows"]:
        memory = "plain {plain_memory:.2f}, fast {fast_memory:.2f}".format(**row) if "fast_memory" in row else ""
        line = "{loss:5} {stage:>12} {plain_ms:10.1f} {fast_ms:9.1f} {ratio:6.1f}x {over_floor:8.1f}  ".format(**row)
        print(line + memory)
    print("agreement of values: " + ", ".join(f"{name} {value:.1e}" for name, value in result["agreement"].items()))
    if "resnet50_step_ms" in result:
        print("ResNet-50 step {resnet50_step_ms:.1f} ms; ADD is {add_share_of_step:.1%} of it".format(**result))
    reached, target = result["rows"][-1]["ratio"], TARGETS[result["kind"]]
    print(f"ADD: {reached:.1f}x, target {target}x, {'reached' if reached >= target else 'NOT reached'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=144, help="images; default: %(default)s, the paper's")
    parser.add_argument("--views", type=int, default=VIEWS, help="random directions; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="plain runs of every case; default: %(default)s")
    parser.add_argument("--fast-repeats", type=int, default=3, help="fast runs for each; default: %(default)s")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's")
    parser.add_argument("--no-memory", action="store_true", help="skip the memory measurement")
    parser.add_argument("--step", action="store_true", help="also time a ResNet-50 step on a CPU (on a GPU always)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU: torch.cuda.is_available() is False; use --device cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
