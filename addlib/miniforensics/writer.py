"""The data set on disk: an FF++ tree of real H.264 files, made from a seed."""

import json
import shutil
from pathlib import Path

import numpy as np

from .. import provenance, video
from ..files import atomic_write
from ..parallel import map_unordered, one_thread
from .manipulations import MANIPULATIONS, Shot, apply
from .motion import trajectory
from .person import Person, draw_traits
from .scene import Camera, background, compose

RECORD = "miniforensics.json"
CANDIDATES = 3  # people out of whom a partner is taken


def generator_hash() -> str:
    """12 hex digits of what decides the bytes: the code that draws and writes, and the libraries under it."""
    versions = provenance.versions()
    libraries = [versions.get(name) for name in ("numpy", "opencv", "av")]
    return provenance.digest([provenance.code_hash("addlib.miniforensics"), libraries])


def video_path(root: Path, manipulation: str, quality: str, name: str) -> Path:
    """Where FF++ keeps a video; manipulation "original" for the real ones."""
    real = manipulation == "original"
    folder = "original_sequences/youtube" if real else f"manipulated_sequences/{manipulation}"
    return Path(root) / folder / quality / "videos" / f"{name}.mp4"


def render_video(
    seed: int, target: int, source: int, frames: int, people: tuple[Person, Person] | None = None
) -> dict[str, list[np.ndarray]]:
    """The real video of ``target`` and its five manipulations with the face or expression of ``source``.

    Args:
        seed, target, source: whole numbers that name the data set and two of its people.
        frames: how many.
        people: the target and the source, to save drawing them again.

    Returns:
        From "original" and the manipulations' names to lists of (SIZE, SIZE, 3) uint8 frames.
    """
    one, other = people or (Person(draw_traits(seed, number)) for number in (target, source))
    poses, source_poses = trajectory(seed, target, frames), trajectory(seed, source, frames)
    room, camera = background(seed, target), Camera.draw(seed, target)
    forgers = {
        name: kind(one, other, np.random.default_rng([seed, target, source, 7, index]))
        for index, (name, kind) in enumerate(MANIPULATIONS.items())
    }
    result = {name: [] for name in ("original", *MANIPULATIONS)}
    for index, (pose, source_pose) in enumerate(zip(poses, source_poses, strict=True)):
        maps = one.turn(pose)
        real = camera.see(compose(one, pose, room, maps))
        grain = camera.grain(seed, target, index)
        frame = camera.expose(real, grain)
        result["original"].append(frame)
        shot = Shot(real, pose, maps, source_pose, camera.lens)
        for name, forger in forgers.items():
            result[name].append(apply(forger.forge(shot), frame, real, grain, forger.noise_kept, camera.expose))
    return result


def _missing(root, pair, manipulations):
    """Files of one identity pair that are not there yet: {(target, source): {(manipulation, quality): path}}."""
    missing = {}
    for target, source in (pair, pair[::-1]):
        for kind in ("original", *manipulations):
            name = f"{target:03d}" if kind == "original" else f"{target:03d}_{source:03d}"
            for quality in video.QUALITIES:
                path = video_path(root, kind, quality, name)
                if not path.exists():
                    missing.setdefault((target, source), {})[kind, quality] = path
    return missing


def _write_pair(job):
    """Both directions of one identity pair; files that are there are kept."""
    root, seed, pair, frames, manipulations = job
    with one_thread():
        people = {number: Person(draw_traits(seed, number)) for number in pair}
        for (target, source), files in _missing(root, pair, manipulations).items():
            rendered = render_video(seed, target, source, frames, (people[target], people[source]))
            for (kind, quality), path in files.items():
                video.write_video(path, rendered[kind], video.QUALITIES[quality])


def pairs(people: int, seed: int = 0) -> list[tuple[int, int]]:
    """The identity pairs (a, b) of a data set, a < b, sorted.

    Each person, in a random order, is paired with that one of a few of those who are left who looks most alike, by colour of hair
    and skin. A forger would choose so too; and with partners drawn blindly, brows that do not fit the hair give a swap away at
    any compression, while with the best match of all nothing but fine detail would.
    """
    everybody = [draw_traits(seed, number) for number in range(people)]
    looks = np.array([[*2 * traits.hair, traits.tone] for traits in everybody])
    left, matching = np.random.default_rng([seed, 8]).permutation(people).tolist(), []
    while left:
        one = left.pop()
        other = min(left[:CANDIDATES], key=lambda number: (np.linalg.norm(looks[number] - looks[one]), number))
        left.remove(other)
        matching.append((min(one, other), max(one, other)))
    return sorted(matching)


def generate(
    root: str | Path, *, people: int = 200, frames: int = 8, seed: int = 0, workers: int | None = None, overwrite: bool = False,
    manipulations: list[str] | None = None,
) -> Path:  # fmt: skip
    """Write MiniForensics, an FF++ tree of synthetic people, and return its folder.

    Args:
        root: folder to write to; a tree that was begun with the same settings is completed.
        people: identities, an even number from 2 to 1000. Each gives one real video and one of every manipulation.
        frames: frames of a video, at 25 a second.
        seed: another seed, other people. The same seed gives the same bytes whatever the number of workers.
        workers: processes; None is one a core.
        overwrite: replace a tree that other settings or another version of the generator made.
        manipulations: names out of MANIPULATIONS; all five by default.

    Raises:
        ValueError: a bad count or an unknown name.
        FileExistsError: ``root`` holds something else, or was made with other settings or other code.
        OutputError: the disk is full or cannot be written.
    """
    root = Path(root)
    manipulations = tuple(MANIPULATIONS) if manipulations is None else tuple(manipulations)
    unknown = set(manipulations) - set(MANIPULATIONS)
    if unknown:
        raise ValueError(f"unknown manipulations {sorted(unknown)}; there are {list(MANIPULATIONS)}")
    if people % 2 or not 2 <= people <= 1000:
        raise ValueError(f"people is {people}; expected an even number from 2 to 1000: pairs, and names of three digits")
    if frames < 1:
        raise ValueError(f"frames is {frames}; expected 1 or more")
    record = {"people": people, "frames": frames, "seed": seed, "manipulations": list(manipulations)}
    _claim(root, record | {"generator": generator_hash()}, overwrite)
    todo = [pair for pair in pairs(people, seed) if _missing(root, pair, manipulations)]
    jobs = [(str(root), seed, pair, frames, manipulations) for pair in todo]
    if jobs:
        for _ in map_unordered(_write_pair, jobs, workers=workers, total=len(jobs), describe="pairs drawn"):
            pass
    return root


def _claim(root, record, overwrite):
    """Make ``root`` ours: write the record, or check that what is there was made the same way."""
    path = root / RECORD
    if path.exists():
        found = json.loads(path.read_text())
        if found == record:
            return
        if not overwrite:
            differing = {key: (found.get(key), value) for key, value in record.items() if found.get(key) != value}
            raise FileExistsError(
                f"{root} was made with other settings or code (found, asked): {differing}; choose another folder, or overwrite"
            )
        for folder in ("original_sequences", "manipulated_sequences"):
            shutil.rmtree(root / folder, ignore_errors=True)
    elif root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty and holds no {RECORD}; choose an empty folder (nothing was deleted)")
    text = json.dumps(record, indent=1) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))
