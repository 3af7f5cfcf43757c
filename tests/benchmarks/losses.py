"""Time and memory of the ADD losses against a plain implementation of the published form, forward and backward.

    python tests/benchmarks/losses.py                          CPU, batch 144, the three weighted stages of ResNet-50
    python tests/benchmarks/losses.py --device cuda --json losses-cuda.json

The plain form does what the published code does, in the most direct way that torch offers. Plain and fast runs alternate;
the table gives medians, on one CPU thread of processor time. Memory is what torch holds at most beyond the maps, gradient
included. "floor" is the time of five maps (both read twice, one gradient written) at the bandwidth of a copy in this run.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from addlib.losses import ADDLoss, draw_pairs, random_directions

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
    grid = torch.cartesian_prod(*(torch.arange(size, device=direction.device, dtype=direction.dtype) for size in shape))
    projections = torch.sort(grid @ direction).values
    edges = torch.linspace(0, 1, bins + 1, device=grid.device)[1:-1] * (projections[-1] - projections[0])
    return torch.searchsorted(projections, edges + projections[0])


def plain_multi_view(student: Tensor, teacher: Tensor, pairs: tuple[Tensor, Tensor], directions: Tensor) -> Tensor:
    """Eq. 9: every view cuts both maps of every pairing."""
    squares = [features.flatten(1) ** 2 for features in (student, teacher)]
    own, others = (square / square.sum(1, keepdim=True) for square in squares)
    pairings = [others, others[pairs[0]], others[pairs[1]]]
    nothing, distances = student.new_zeros(len(student), 1), [student.new_zeros(len(student)) for _ in pairings]
    for direction in directions.to(student.dtype):
        cuts = plain_cuts(student.shape[1:], direction, student.shape[1] // 2)
        for i, partner in enumerate(pairings):
            # Mass between neighbouring cuts, in raster order; what lies beyond the last cut is dropped.
            vectors = [torch.cumsum(mass, 1)[:, cuts].diff(dim=1, prepend=nothing) for mass in (own, partner)]
            distances[i] = distances[i] + (vectors[0] - vectors[1]).square().sum(1) / len(directions)
    itself, same, other = distances
    return (GAMMA * itself + ETA * (same + torch.clamp(MARGIN - other, min=0))).mean()


class Setting:
    """Maps of all stages, and everything random, fixed, so that both implementations get the same work."""

    def __init__(self, batch: int, views: int, device: str, stages: tuple) -> None:
        generator = torch.Generator().manual_seed(0)
        self.stages, self.views = stages, views
        self.labels = (torch.arange(batch) % 2).to(device)
        self.pairs = draw_pairs(self.labels, generator=generator)
        sizes = [(batch, channels, side, side) for channels, side, _, _ in stages]
        made = [[torch.randn(size, generator=generator).relu_().to(device) for _ in range(2)] for size in sizes]
        self.maps = [(student.requires_grad_(), teacher) for student, teacher in made]
        self.directions = random_directions(views, generator=generator, device=device)

    def step(self, kind: str, name: str, stages: tuple[int, ...]) -> None:
        """One forward and backward pass; the fast form draws its own directions and pairs, as a training step does."""
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
        return sum(tensor.nbytes for stage in stages for tensor in self.maps[stage])


def timed(action: Callable[[], object], device: str) -> float:
    """Milliseconds."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    wait()
    start = clock()
    action()
    wait()
    return (clock() - start) * 1e3


def copy_bandwidth(device: str) -> float:
    """GB read and written in a second by a copy of a large tensor, the best of several."""
    source = torch.ones(2**26 if device == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(timed(lambda: target.copy_(source), device) for _ in range(12)) / 1e6


def peak_memory(action: Callable[[], object], device: str) -> int:
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


def measure(device: str, batch: int, repeats: int) -> dict:
    setting, every = Setting(batch, VIEWS, device, STAGES), tuple(range(len(STAGES)))
    setting.step("fast", "ADD", every)
    bandwidth, rows = copy_bandwidth(device), []
    for name, stages in [*((name, (stage,)) for name in ("FR", "MV") for stage in every), ("ADD", every)]:
        row = {"loss": name, "stage": "all" if len(stages) > 1 else "{0}x{1}x{1}".format(*STAGES[stages[0]][:2])}
        steps = {kind: functools.partial(setting.step, kind, name, stages) for kind in ("plain", "fast")}
        times: dict[str, list[float]] = {"plain": [], "fast": []}
        for _ in range(repeats):
            for kind in ("plain", "fast", "fast", "fast"):
                times[kind].append(timed(steps[kind], device))
        row |= {f"{kind}_ms": statistics.median(values) for kind, values in times.items()}
        floor = 2.5 * setting.bytes_of_maps(stages) / bandwidth / 1e6
        row |= {"ratio": row["plain_ms"] / row["fast_ms"], "floor_ms": floor, "over_floor": row["fast_ms"] / floor}
        for kind, step in steps.items():
            for student, _ in setting.maps:
                student.grad = None
            row[f"{kind}_memory"] = peak_memory(step, device) / setting.bytes_of_maps(stages)
        rows.append(row)
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    run = {"device": where, "torch": torch.__version__, "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    return run | {"batch": batch, "repeats": repeats, "copy_bandwidth_gb_s": bandwidth, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=TARGETS, default="cpu")
    parser.add_argument("--batch", type=int, default=144, help="images; default: %(default)s, the paper's")
    parser.add_argument("--repeats", type=int, default=3, help="plain runs of every case; default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.device, arguments.batch, arguments.repeats)
    print(", ".join(f"{name} {value}" for name, value in found.items() if name != "rows"))
    print("loss         stage   plain ms   fast ms   ratio  x floor  memory beyond the maps, in multiples of both")
    line = "{loss:5} {stage:>12} {plain_ms:10.1f} {fast_ms:9.1f} {ratio:6.1f}x {over_floor:8.1f}  "
    for row in found["rows"]:
        print((line + "plain {plain_memory:.2f}, fast {fast_memory:.2f}").format(**row))
    print(f"ADD: {found['rows'][-1]['ratio']:.1f}x, target {TARGETS[arguments.device]}x")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
