"""Profile paper and its grids rehearsed on a CPU: a copy of the project, twelve synthetic people, trainings of one epoch."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from builder.project import Project, environment

# Pairs of the official split; and what real copies have: frames (width, height) of several sizes, a video of hundreds of
# frames, compressed copies that break off a few frames before raw.
SPLITS = {"train": ["071_054", "087_081", "881_856"], "val": ["720_672"], "test": ["953_974", "012_026"]}
SIZES, USUAL_SIZE = {"071": (1280, 720), "087": (480, 640)}, (640, 480)
LENGTHS, USUAL_LENGTHS = {"054": (320, 310, 300), "087": (12, 12, 11)}, (8, 8, 8)  # of raw, c23, c40
VIDEOS, CROPS = "data/FaceForensics++", "data/crops/FaceForensics++"
# All that is cut: code that stands at the end of these files of the copy, and the epochs of the profile.
CUT = {
    "addlib/detectors/__init__.py": """
for _name in ("resnet18", "resnet34", "resnet50", "efficientnet_b0"):
    DETECTORS[_name] = DETECTORS[f"{_name}_narrow"]
""",
    "addlib/training/recipe.py": """
RECIPES["paper"] = replace(RECIPES["paper"], epochs=1, batch_size=8, validations=1)
""",
}


def rehearse(names: list[str] | None = None, jobs: int | None = None, timeout: int = 600, root: str | Path | None = None) -> bool:
    """Go the whole way of profile paper in book/_build/rehearsal: prepare, grids, chapters, pages; minutes on a CPU.

    Of every grid one training of each kind is made; the chapters are executed with these rows alone, as half-way through the
    sweeps, then with all rows, the others drawn from these. With ``names`` only those chapters are executed, and no page built.
    """
    project = Project(root)
    copy = stage(project, project.build / "rehearsal")
    write_tree(copy.root / VIDEOS, jobs)
    done = addlib(copy, "prepare", VIDEOS, CROPS, "--splits", f"{VIDEOS}/splits", "--frames", "4")
    done = done and addlib(copy, "verify", CROPS, "--alignment")
    for grid in grids(copy):
        done = addlib(copy, "sweep", first_of_each_kind(copy, grid)) and done
    chapters = ["execute", "--profile", "paper", "--timeout", str(timeout), *(["--jobs", str(jobs)] if jobs else [])]
    for fill in (False, True):
        if fill:
            draw_the_other_rows(copy)
        done = run(copy, str(copy.book / "builder"), *chapters, *(names or [])) and done
    return done and (bool(names) or run(copy, str(copy.book / "builder"), "publish", "--profile", "paper"))


def stage(project: Project, folder: Path) -> Project:
    """A new copy of the project in ``folder``, without its data, cut."""
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns("_build", "__pycache__", ".ipynb_checkpoints", "predictions")
    for name in ("addlib", "book", "data/paper", "data/results"):
        shutil.copytree(project.root / name, folder / name, ignore=left_out)
    for name in ("_config.yml", "requirements.lock", "data/claims.yml"):
        shutil.copy(project.root / name, folder / name)
    for name, code in CUT.items():
        (folder / name).write_text((folder / name).read_text("utf-8") + code, "utf-8")
    profile = folder / "book" / "profiles" / "paper.yaml"
    profile.write_text(re.sub(r"epochs: \d+", "epochs: 1", profile.read_text("utf-8")), "utf-8")
    return Project(folder)


def run(copy: Project, *command: str) -> bool:
    """Python in the copy, with its own addlib; what it prints is shown."""
    print(f"\n== {' '.join(command).replace(str(copy.root), '.')}", flush=True)
    values = environment(copy) | {"ADDLIB_REPOSITORY_URL": ""}
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


def first_of_each_kind(copy: Project, grid: Path) -> str:
    """Write a grid with one run of each kind of another, and return its path."""
    import yaml
    from addlib.sweep import read_grid

    about, runs = read_grid(grid)
    chosen = {kind(run): run for run in filter(stands_for_others, runs)}
    assert chosen.keys() == set(map(kind, runs)), grid
    entries = [{**each.columns, "changes": dict(each.changes), "settings": dict(each.settings)} for each in chosen.values()]
    target = copy.build / grid.name
    target.parent.mkdir(exist_ok=True)
    target.write_text(yaml.safe_dump(about | {"common": {}, "runs": entries}), "utf-8")
    return str(target)


def draw_the_other_rows(copy: Project) -> None:
    """Rows for all other runs of the grids: those of their kind, every measure moved at random by a few per cent."""
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
        rows = {kind(run): table[table["key"] == run.key(data)] for run in runs if stands_for_others(run)}
        drawn = [table]
        for run in (run for run in runs if run.key(data) not in set(table["key"])):
            own = rows[kind(run)].assign(**run.columns, key=run.key(data))
            measures = own.select_dtypes("float").columns
            own[measures] *= rng.normal(1, 0.05, own[measures].shape)
            own[measures] = own[measures].clip(upper={name: 1.0 for name in measures if name in METRICS})
            drawn.append(own)
        pd.concat(drawn, ignore_index=True).to_csv(path, index=False)
