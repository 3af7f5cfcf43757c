"""Time and memory of the ADD losses against a plain implementation of the published form, forward and backward.

    python tests/benchmarks/losses.py                          CPU, batch 144, the three weighted stages of ResNet-50
    python tests/benchmarks/losses.py --device cuda --json losses-cuda.json
    python tests/benchmarks/losses.py --batch 16 --repeats 5   quicker, for development

The plain form does what the published code does, in the most direct way that torch offers: complex transforms of both
maps; a loop over views, in each of which the projected grid is sorted, and the mass of both maps accumulated and cut at
the bin edges once for each of three pairings (teacher's map of the same image, of another image of the class, of
another class). Plain and fast runs alternate within one process; the table gives medians, so ratios survive a busy
machine better than times do. Peak memory is what torch's allocator holds at most during a forward and backward pass,
the gradient included, beyond the maps themselves. "floor" is the time that reading both maps twice
and writing one gradient takes at the bandwidth of a copy measured in the same run.
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

from addlib.losses import draw_pairs, frequency_attention_loss, multi_view_attention_loss, random_directions

# Stages of ResNet-50 at 128 px that the published code gives a weight: (channels, side, FR weight, MV weight).
STAGES = ((512, 16, 1.0, 0.5), (1024, 8, 2.0, 2.5), (2048, 4, 0.25, 2.0))
ALPHA, BETA, VIEWS, GAMMA, ETA, MARGIN = 1.0, 16.0, 12, 100.0, 50.0, 0.012
TARGETS = {"cpu": {"FR": 5, "MV": 12, "ADD": 10}, "cuda": {"ADD": 30}}


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


def plain_mass(features: Tensor) -> Tensor:
    squares = features.flatten(1) ** 2
    return squares / squares.sum(1, keepdim=True)


def plain_multi_view(
    student: Tensor, teacher: Tensor, pairs: tuple[Tensor, Tensor], directions: Tensor, margin: float = MARGIN
) -> Tensor:
    """Eq. 9: every view cuts both maps of every pairing."""
    own, others = plain_mass(student), plain_mass(teacher)
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
        self.stages = stages
        self.views = views
        self.labels = (torch.arange(batch) % 2).to(device)
        self.pairs = draw_pairs(self.labels, generator=generator)
        self.maps = []
        for channels, side, _, _ in stages:
            student = torch.randn(batch, channels, side, side, generator=generator).relu_().to(device)
            teacher = torch.randn(batch, channels, side, side, generator=generator).relu_().to(device)
            self.maps.append((student.requires_grad_(), teacher))
        self.directions = random_directions(views, generator=generator, device=device)

    def term(self, kind: str, name: str, stage: int) -> Tensor:
        student, teacher = self.maps[stage]
        if name == "FR":
            return plain_frequency(student, teacher) if kind == "plain" else frequency_attention_loss(student, teacher)
        if kind == "plain":
            return plain_multi_view(student, teacher, self.pairs, self.directions)
        # The fast form draws its own directions and pairs: what a training step pays for.
        return multi_view_attention_loss(
            student, teacher, self.labels, views=self.views, gamma=GAMMA, eta=ETA, margin=MARGIN
        )

    def step(self, kind: str, name: str, stages: tuple[int, ...]) -> None:
        """One forward and backward pass of a loss over some stages."""
        loss = 0
        for stage in stages:
            self.maps[stage][0].grad = None
            _, _, weight_fr, weight_mv = self.stages[stage]
            if name in ("FR", "ADD"):
                loss = loss + ALPHA * weight_fr * self.term(kind, "FR", stage)
            if name in ("MV", "ADD"):
                loss = loss + BETA * weight_mv * self.term(kind, "MV", stage)
        loss.backward()

    def bytes_of_maps(self, stages: tuple[int, ...]) -> int:
        return sum(tensor.numel() * tensor.element_size() for stage in stages for tensor in self.maps[stage])


def timed(action: Callable[[], None], device: str) -> float:
    """Milliseconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def copy_bandwidth(device: str) -> float:
    """Bytes read and written in a second by a copy of a large tensor, the best of several."""
    source = torch.ones(2**26 if device == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    best = min(timed(lambda: target.copy_(source), device) for _ in range(12))
    return 2 * source.numel() * source.element_size() / (best / 1e3)


def peak_memory(action: Callable[[], None], device: str) -> int:
    """Bytes that torch's allocator holds at most during an action, beyond what it held before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def training_step(batch: int, device: str, repeats: int) -> float:
    """Milliseconds of one bare training step of ResNet-50 at 128 px: forward, cross-entropy, backward, Adam."""
    from torchvision.models import resnet50

    model = resnet50(num_classes=2).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    images = torch.randn(batch, 3, 128, 128, device=device)
    labels = torch.arange(batch, device=device) % 2

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()

    for _ in range(3):
        step()
    return statistics.median(timed(step, device) for _ in range(repeats))


def agreement(setting: Setting) -> dict[str, float]:
    """Largest relative difference between plain and fast values, where both compute the same thing.

    Without the hinge, which is of the mean over views in the plain form, of every view in the published one.
    """
    worst = {"FR": 0.0, "MV": 0.0}
    with torch.no_grad():
        for student, teacher in setting.maps:
            first, second = plain_frequency(student, teacher), frequency_attention_loss(student, teacher)
            worst["FR"] = max(worst["FR"], abs(float(second / first) - 1))
            ways = torch.full((setting.views, 2, len(student)), -1, device=student.device)
            published = [ways.clone(), ways.clone()]
            for index, pair in zip(published, setting.pairs, strict=True):
                index[:, 0] = pair  # student against the teacher's pairs only
            first = plain_multi_view(student, teacher, setting.pairs, setting.directions, margin=0)
            second = multi_view_attention_loss(
                student,
                teacher,
                None,
                directions=setting.directions,
                pairs=tuple(published),
                margin=0,
                variant="published",
            )
            worst["MV"] = max(worst["MV"], abs(float(second / first) - 1))
    return worst


def measure(arguments: argparse.Namespace) -> dict:
    device = arguments.device
    setting = Setting(arguments.batch, arguments.views, device)
    cases = [(name, (stage,)) for name in ("FR", "MV") for stage in range(len(STAGES))]
    cases += [(name, tuple(range(len(STAGES)))) for name in ("FR", "MV", "ADD")]
    small = Setting(4, 2, device)
    for kind in ("plain", "fast"):
        small.step(kind, "ADD", (0, 1, 2))
    setting.step("fast", "ADD", (0, 1, 2))
    bandwidth = copy_bandwidth(device)

    times: dict[tuple, list[float]] = {}
    for _ in range(arguments.repeats):
        for name, stages in cases:
            if len(stages) > 1 and name != "ADD":
                continue  # FR and MV in all are sums of their stages
            times.setdefault(("plain", name, stages), []).append(
                timed(lambda name=name, stages=stages: setting.step("plain", name, stages), device)
            )
            for _ in range(arguments.fast_repeats):
                times.setdefault(("fast", name, stages), []).append(
                    timed(lambda name=name, stages=stages: setting.step("fast", name, stages), device)
                )
    medians = {key: statistics.median(values) for key, values in times.items()}
    for kind in ("plain", "fast"):
        for name in ("FR", "MV"):
            parts = [medians[kind, name, (stage,)] for stage in range(len(STAGES))]
            medians[kind, name, (0, 1, 2)] = sum(parts)

    rows = []
    for name, stages in cases:
        plain, fast = medians["plain", name, stages], medians["fast", name, stages]
        moved = 2.5 * setting.bytes_of_maps(stages)  # both maps twice and one gradient: five maps
        where = "all" if len(stages) > 1 else "{0}x{1}x{1}".format(*STAGES[stages[0]][:2])
        row = {"loss": name, "stage": where, "plain_ms": plain, "fast_ms": fast, "ratio": plain / fast}
        row["floor_ms"] = moved / bandwidth * 1e3
        row["over_floor"] = fast / row["floor_ms"]
        if not arguments.no_memory and (len(stages) == 1 or name == "ADD"):
            for kind in ("plain", "fast"):
                for student, _ in setting.maps:
                    student.grad = None
                peak = peak_memory(lambda kind=kind: setting.step(kind, name, stages), device)  # noqa: B023
                row[f"{kind}_memory"] = peak / setting.bytes_of_maps(stages)
        rows.append(row)

    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "kind": device,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "batch": arguments.batch,
        "views": arguments.views,
        "repeats": arguments.repeats,
        "copy_bandwidth_gb_s": bandwidth / 1e9,
        "agreement": agreement(setting if device == "cuda" else small),
        "rows": rows,
    }
    if device == "cuda" or arguments.step:
        step = training_step(arguments.batch, device, 20 if device == "cuda" else 2)
        result["resnet50_step_ms"] = step
        result["add_share_of_step"] = medians["fast", "ADD", (0, 1, 2)] / step
    return result


def show(result: dict) -> None:
    print(
        f"{result['device']}, torch {result['torch']}, {result['threads']} threads, load {result['load']:.1f}; "
        f"batch {result['batch']}, {result['views']} views, forward + backward, medians of {result['repeats']}; "
        f"copy {result['copy_bandwidth_gb_s']:.1f} GB/s"
    )
    print(
        f"{'loss':5} {'stage':>12} {'plain ms':>10} {'fast ms':>9} {'ratio':>7} {'x floor':>8} "
        f"{'plain memory':>13} {'fast memory':>12}"
    )
    for row in result["rows"]:
        memory = [f"{row[key]:.2f} maps" if key in row else "" for key in ("plain_memory", "fast_memory")]
        print(
            f"{row['loss']:5} {row['stage']:>12} {row['plain_ms']:10.1f} {row['fast_ms']:9.1f} {row['ratio']:6.1f}x "
            f"{row['over_floor']:8.1f} {memory[0]:>13} {memory[1]:>12}"
        )
    print("memory: peak beyond the maps of student and teacher, in multiples of both")
    print("agreement of values: " + ", ".join(f"{name} {value:.1e}" for name, value in result["agreement"].items()))
    if "resnet50_step_ms" in result:
        print(f"ResNet-50 step {result['resnet50_step_ms']:.1f} ms; ADD is {result['add_share_of_step']:.1%} of it")
    for name, target in TARGETS[result["kind"]].items():
        reached = next(row["ratio"] for row in result["rows"] if row["loss"] == name and row["stage"] == "all")
        print(f"{name}: {reached:.1f}x, target {target}x, {'reached' if reached >= target else 'NOT reached'}")


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
        print("no GPU: torch.cuda.is_available() is False; use --device cpu", file=sys.stderr)
        return 1
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
