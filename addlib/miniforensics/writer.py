"""The data set on disk: an FF++ tree of real H.264 files, made from a seed."""

import json
import shutil
from pathlib import Path

import numpy as np

from .. import provenance, video
from ..files import atomic_write
from ..parallel import map_unordered, one_thread
from .manipulations import MANIPULATIONS, Shot
from .motion import trajectory
from .person import Person, draw_traits
from .scene import Camera, background, compose

RECORD = "miniforensics.json"
CANDIDATES = 3  # people out of whom a partner is taken


def generator_hash() -> str:
    """12 hex digits of what decides the bytes: the code that draws and writes, and the libraries under it."""
    libraries = [provenance.versions().get(name) for name in ("numpy", "opencv", "av")]
    return provenance.digest([provenance.code_hash("addlib.miniforensics"), libraries])


def render_video(
    seed: int, target: int, source: int, frames: int, people: tuple[Person, Person] | None = None
) -> dict[str, list[np.ndarray]]:
    """The real video of ``target`` and its five manipulations with the face or expression of ``source``.

    Args:
        seed, target, source: whole numbers that name the data set and two of its people.
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
        shot = Shot(camera.see(compose(one, pose, room, maps)), pose, maps, source_pose, camera.lens)
        grain = camera.grain(seed, target, index)
        frame = camera.expose(shot.real, grain)
        result["original"].append(frame)
        for name, forger in forgers.items():
            result[name].append(forger.apply(shot, frame, grain))
    return result


def _missing(root, pair, manipulations):
    """Files of one identity pair that are not there yet, of both directions: {(target, source): {(name, quality): path}}."""
    missing = {}
    for target, source in (pair, pair[::-1]):
        files = {"original": f"original_sequences/youtube/{{}}/videos/{target:03d}.mp4"}
        for name in manipulations:
            files[name] = f"manipulated_sequences/{name}/{{}}/videos/{target:03d}_{source:03d}.mp4"
        paths = {(name, q): Path(root, file.format(q)) for name, file in files.items() for q in video.QUALITIES}
        if left := {key: path for key, path in paths.items() if not path.is_file() or not path.stat().st_size}:
            missing[target, source] = left
    return missing


def write_pair(job: tuple) -> None:
    """Write the files of one identity pair that are missing; job: root, seed, pair, frames, names of manipulations."""
    root, seed, pair, frames, manipulations = job
    with one_thread():
        people = {number: Person(draw_traits(seed, number)) for number in pair}
        for (target, source), files in _missing(root, pair, manipulations).items():
            rendered = render_video(seed, target, source, frames, (people[target], people[source]))
            for (name, quality), path in files.items():
                video.write_video(path, rendered[name], video.QUALITIES[quality])


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
        seed: a different seed draws different people. The same seed gives the same bytes whatever the number of workers.
        workers: processes; None is one a core.
        overwrite: replace a tree that other settings or another version of the generator made.
        manipulations: names out of MANIPULATIONS; all five by default.

    Raises:
        ValueError: a bad count or an unknown name.
        FileExistsError: ``root`` holds something else, or was made with other settings or other code.
        OutputError: the disk is full or cannot be written.
    """
    root, manipulations = Path(root), list(MANIPULATIONS if manipulations is None else manipulations)
    if unknown := set(manipulations) - set(MANIPULATIONS):
        raise ValueError(f"unknown manipulations {sorted(unknown)}; there are {list(MANIPULATIONS)}")
    if people % 2 or not 2 <= people <= 1000:
        raise ValueError(f"people is {people}; expected an even number from 2 to 1000: pairs, names of three digits")
    if frames < 1:
        raise ValueError(f"frames is {frames}; expected 1 or more")
    settings = {"people": people, "frames": frames, "seed": seed, "manipulations": manipulations}
    _claim(root, settings | {"generator": generator_hash()}, overwrite)
    jobs = [(str(root), seed, pair, frames, manipulations) for pair in pairs(people, seed)]
    jobs = [job for job in jobs if _missing(root, job[2], manipulations)]
    if jobs:
        list(map_unordered(write_pair, jobs, workers=workers, total=len(jobs), describe="pairs drawn"))
    return root


def _claim(root, record, overwrite):
    """Make ``root`` ours: write the record, or check that what is there was made the same way."""
    path = root / RECORD
    try:
        found = dict(json.loads(path.read_text())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise FileExistsError(f"{path} is damaged ({error}); choose another folder, or remove {root}") from error
    if found == record:
        return
    if found and not overwrite:
        differing = {key: (found.get(key), value) for key, value in record.items() if found.get(key) != value}
        raise FileExistsError(f"{root} was made otherwise (found, asked): {differing}; choose another, or overwrite")
    if not found and root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty and holds no {RECORD}; choose an empty folder (nothing is lost)")
    for folder in ("original_sequences", "manipulated_sequences"):
        if (root / folder).exists():
            shutil.rmtree(root / folder)
    atomic_write(path, lambda file: file.write((json.dumps(record, indent=1) + "\n").encode()))
