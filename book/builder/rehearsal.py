"""Profile paper and its grids rehearsed on a CPU: a copy of the project, sixteen synthetic people, trainings of one epoch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from builder.project import Project, environment
from builder.warm import warm_kernels

# Pairs of the official split; and what real copies have: frames (width, height) of several sizes, a video of hundreds of
# frames, compressed copies that break off a few frames before raw.
SPLITS = {"train": ["071_054", "087_081", "881_856"], "val": ["720_672"], "test": ["953_974", "012_026", "078_955", "623_630"]}
SIZES, USUAL_SIZE = {"071": (1280, 720), "087": (480, 640), "881": (640, 480)}, (320, 240)
LENGTHS, USUAL_LENGTHS = {"054": (320, 310, 300), "087": (12, 12, 11)}, (8, 8, 8)  # of raw, c23, c40
VIDEOS, CROPS = "data/FaceForensics++", "data/crops/FaceForensics++"
# All that is cut: code that stands at the end of these files of the copy, and the epochs of the profile.
CUT = {
    "addlib/detectors/__init__.py": """
for _name in ("resnet18", "resnet34", "resnet50", "efficientnet_b0"):
    DETECTORS[_name] = DETECTORS[f"{_name}_narrow"]
""",
    "addlib/training/recipe.py": """
RECIPES["paper"] = replace(RECIPES["paper"], epochs=1, batch_size=4, validations=1)
""",
}


def rehearse(
    names: list[str] | None = None, jobs: int | None = None, timeout: int | None = None, root: str | Path | None = None,
    folder: str | Path | None = None,
) -> bool:  # fmt: skip
    """Go the whole way of profile paper, cut short: prepare, grids, chapters, pages; in book/_build/rehearsal.

    One training of each kind in every grid. The chapters are executed with these rows alone, as half-way through the sweeps,
    then with rows for all runs, drawn from these. With ``names``: those chapters, one training of every grid, no pages.
    """
    project = Project(root)
    copy = stage(project, Path(folder or project.build / "rehearsal"))
    write_tree(copy.root / VIDEOS, jobs)
    workers = ["--workers", str(jobs)] if jobs else []
    prepared = addlib(copy, "prepare", VIDEOS, CROPS, "--splits", f"{VIDEOS}/splits", "--frames", "4", *workers)
    if not (prepared and addlib(copy, "verify", CROPS, "--alignment")):
        return False
    done = [addlib(copy, "sweep", *(one_of_each_kind(copy, grid, last=bool(names)) for grid in grids(copy)))]
    builder = [str(copy.book / "builder"), "--profile", "paper"]
    more = [f"--{name}={value}" for name, value in (("jobs", jobs), ("timeout", timeout)) if value]
    done.append(run(copy, *builder, *more, "execute", *(names or [])))
    draw_the_other_rows(copy)
    done.append(run(copy, *builder, *more, "execute", *(names or [])))
    return all(done) and (bool(names) or run(copy, *builder, "publish"))


def stage(project: Project, folder: Path) -> Project:
    """A new copy of the project in ``folder``, cut, without its data and its rows of profile paper."""
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns("_build", "__pycache__", ".ipynb_checkpoints")
    for name in ("addlib", "book", "data/paper", "data/results"):
        shutil.copytree(project.root / name, folder / name, ignore=left_out)
    for name in ("_config.yml", "requirements.lock", "data/claims.yml", "data/protocol.md"):
        shutil.copy(project.root / name, folder / name)
    edits = [(name, r"\Z", code.replace("\\", r"\\")) for name, code in CUT.items()]
    edits += [(f"data/results/{table}.csv", r"^\w+,paper,.*\n", "") for table in ("runs", "look", "outside")]
    for name, old, new in [*edits, ("book/profiles/paper.yaml", r"epochs: \d+", "epochs: 1")]:
        path = folder / name
        path.write_text(re.sub(old, new, path.read_text("utf-8"), flags=re.M), "utf-8")
    copy = Project(folder)
    copy.build.mkdir()
    (project.build / "home").mkdir(parents=True, exist_ok=True)
    (copy.build / "home").symlink_to(project.build / "home")  # settings of kernels, and the list of fonts, which takes a while
    return copy


def run(copy: Project, *command: str) -> bool:
    """Python in the copy, with its own addlib; what it prints is shown."""
    print(f"\n== {' '.join(command).replace(str(copy.root), '.')}", flush=True)
    own = environment(copy) | {"ADDLIB_REPOSITORY_URL": ""}
    with warm_kernels(own, len(command) if "sweep" in command else 0) as values:  # as many grids, about
        return subprocess.run([sys.executable, *command], cwd=copy.root, env=values).returncode == 0


def addlib(copy: Project, *command: str) -> bool:
    return run(copy, "-m", "addlib.cli", *command)


def write_tree(root: Path, workers: int | None = None) -> None:
    """FaceForensics++ in small: H.264 files under its names, and the files of the split."""
    from addlib.parallel import map_unordered

    for split, pairs in SPLITS.items():
        (root / "splits").mkdir(parents=True, exist_ok=True)
        (root / "splits" / f"{split}.json").write_text(json.dumps([pair.split("_") for pair in pairs]))
    jobs = [(root, *pair.split("_")[::way]) for pairs in SPLITS.values() for pair in pairs for way in (1, -1)]
    list(map_unordered(_write_videos, jobs, workers=workers, total=len(jobs), describe="people drawn"))


def _write_videos(job: tuple[Path, str, str]) -> None:
    import cv2
    import numpy as np

    from addlib import miniforensics, video

    root, target, source = job
    width, height = SIZES.get(target, USUAL_SIZE)
    side, lengths = min(width, height), LENGTHS.get(target, USUAL_LENGTHS)
    margins = [((total - side) // 2, total - side - (total - side) // 2) for total in (height, width)]
    for name, drawn in miniforensics.render_video(0, int(target), int(source), min(lengths[0], 12)).items():
        large = [np.pad(cv2.resize(frame, (side, side)), (*margins, (0, 0)), "edge") for frame in drawn]
        folder = f"manipulated_sequences/{name}"
        folder, stem = ("original_sequences/youtube", target) if name == "original" else (folder, f"{target}_{source}")
        for (quality, crf), length in zip(video.QUALITIES.items(), lengths, strict=True):
            length = length if name == "original" else min(length, len(large))
            turns = [large[number % len(large)] for number in range(length)]
            video.write_video(root / folder / quality / "videos" / f"{stem}.mp4", turns, crf)


def grids(copy: Project) -> list[Path]:
    return sorted((copy.book / "experiments" / "grids").glob("paper-*.yaml"))


def stands_for_others(run) -> bool:
    return run.manipulation == "NeuralTextures" and run.quality != "c23" and run.seed == 0


def kind(run) -> tuple:
    """What runs have in common of which one is trained: detector, loss, names of the settings; teachers apart."""
    return run.detector, run.distiller, *run.settings, run.quality == "raw"


def one_of_each_kind(copy: Project, grid: Path, last: bool) -> str:
    """Write a grid with one run of each kind of another, or the last of them alone, and return its path."""
    import yaml

    from addlib.sweep import read_grid

    about, runs = read_grid(grid)
    chosen = list({kind(run): run for run in filter(stands_for_others, runs)}.values())[-1 if last else 0 :]
    entries = [run.parameters | {"changes": dict(run.changes), "settings": dict(run.settings)} for run in chosen]
    target = copy.build / "grids" / grid.name
    target.parent.mkdir(exist_ok=True)
    target.write_text(yaml.safe_dump(about | {"common": {}, "runs": entries}), "utf-8")
    return str(target)


def draw_the_other_rows(copy: Project) -> None:
    """Rows and answers for all other runs of the grids: those of their kind, each measure changed by a few per cent."""
    import numpy as np
    import pandas as pd

    from addlib.faceforensics import data_hash
    from addlib.results import METRICS, read_results, results_file
    from addlib.sweep import read_grid

    rng, data = np.random.default_rng(0), data_hash(copy.root / CROPS)
    for grid in grids(copy):
        about, runs = read_grid(grid)
        path = results_file(copy.root, about["table"])
        table = read_results(path)
        of_run = {run: table[table["key"] == run.key(data)] for run in runs}
        of_kind = {kind(run): rows for run, rows in of_run.items() if len(rows)}
        drawn = [table]
        for run in (run for run, rows in of_run.items() if rows.empty):
            rows, own = of_kind.get(kind(run), [*of_kind.values()][-1]), run.key(data)
            answers = path.parent / "predictions" / path.stem / f"{rows['key'].iloc[0]}.npz"
            if answers.is_file():
                with np.load(answers) as seen:
                    noise = rng.normal(0, 0.1, seen["log_odds"].shape)
                    np.savez(answers.with_name(f"{own}.npz"), index=seen["index"], log_odds=seen["log_odds"] + noise)
            rows = rows.assign(**run.columns, key=own)
            measures = list(rows.select_dtypes("float"))
            rows[measures] *= rng.normal(1, 0.05, rows[measures].shape)
            drawn.append(rows.assign(**{name: rows[name].clip(upper=1) for name in measures if name in METRICS}))
        pd.concat(drawn, ignore_index=True).to_csv(path, index=False)
