"""Damaged files, full disks and killed processes: what is wrong is listed, the rest is done, and the next run ends with the same bytes."""

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from addlib import faceforensics, parallel
from addlib.faceforensics import cutting
from addlib.files import locked

QUALITIES = ("raw", "c23", "c40")
DAMAGED = 210
PREPARE = (sys.executable, "-m", "addlib.cli", "prepare")


def files_of(out):
    """Everything that a preparation leaves, lock aside."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def prepare(root, out, **settings):
    names = sorted({path.stem for path in (root / "original_sequences/youtube").rglob("*.mp4")})
    settings = {"frames": 3, "workers": 1, "splits": {"train": [[name for name in names if name.isalnum()]]}} | settings
    return faceforensics.prepare(root, out, **settings)


WAYS = ("cut", "bits", "blank", "boxes", "lose", "swap", "noise")


def spoil(content, way, rng):
    """The bytes of a file, damaged in one of seven ways."""
    content, place, length = bytearray(content), rng.randrange(1, len(content)), rng.choice((1, 64, 1024))
    if way == "bits":
        for _ in range(min(length, 64)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if way == "boxes":  # wrong values where the container keeps sizes, counts and kinds
        for box in (b"ftyp", b"moov", b"stsz", b"stco", b"stts", b"avcC", b"mdat", b"stsd", b"mdhd"):
            if (start := content.find(box) + rng.randrange(-4, 24)) > 0 and rng.random() < 0.4:
                content[start : start + 4] = rng.randbytes(4)
    others = {
        "cut": content[:place],
        "blank": content[:place] + bytes(length) + content[place + length :],
        "lose": content[:place] + content[place + length :],
        "swap": content[place:] + content[:place],
        "noise": rng.randbytes(5 * length - 5),
    }
    return others.get(way, content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:train has no crop")
def test_two_hundred_damaged_files(walk, plant, tmp_path):
    """Each video has one damaged quality; the others of it, and all other videos, come out as if nothing had happened."""
    rng = random.Random(0)
    good = plant(tmp_path / "good", walk[4:7])
    whole = prepare(tmp_path / "good", tmp_path / "expected").set_index("quality")["crops_sha256"]
    damage = {}
    for index in range(DAMAGED):
        name, quality, way = f"{index:03d}", QUALITIES[index % 3], WAYS[index // 3 % len(WAYS)]
        damage[name] = quality, way
        for other in QUALITIES:
            path = tmp_path / "tree/original_sequences/youtube" / other / "videos" / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = good["000", other].read_bytes()
            path.write_bytes(spoil(content, way, rng) if other == quality else content)
    found = prepare(tmp_path / "tree", tmp_path / "out")
    assert len(found) == 3 * DAMAGED
    noticed = 0
    for row in found.itertuples():
        quality, way = damage[row.video]
        case = (row.video, row.quality, quality, way, row.status, row.reason)
        assert (row.status == "ok") == (not row.reason), case
        assert str(tmp_path) not in row.reason and "unexpected" not in row.reason, case
        noticed += row.quality == quality and row.status != "ok"
        if quality != "raw" and row.quality != quality:
            assert row.crops_sha256 == whole[row.quality], case
    assert noticed > 0.75 * DAMAGED, "the others are spoilt where no frame or moment shows it"
    assert faceforensics.verify(tmp_path / "out") == []
    before = files_of(tmp_path / "out")
    prepare(tmp_path / "tree", tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.slow
def test_killed_with_its_workers_at_any_moment(walk, plant, tmp_path):
    """The whole command, again and again, at random moments; in the end the bytes are those of the uninterrupted one."""
    plant(tmp_path / "tree", walk[4:7], names=[f"{index:03d}" for index in range(12)])
    prepare(tmp_path / "tree", tmp_path / "expected", splits=None)
    command = [*PREPARE, str(tmp_path / "tree"), str(tmp_path / "out"), "--frames", "3", "--workers", "2"]
    records, rng = tmp_path / "out/records/original", random.Random(1)
    for done in (1, 4, 7):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            limit = time.monotonic() + 60
            while len(list(records.glob("*.json"))) < done and time.monotonic() < limit:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        assert done <= len(list(records.glob("*.json"))) <= 12
    time.sleep(1)  # the workers notice
    prepare(tmp_path / "tree", tmp_path / "out", splits=None)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "expected")


def test_limit_of_the_system_on_file_size(walk, plant, tmp_path):
    """A real refusal by the kernel, through the command line."""
    plant(tmp_path / "tree", walk[4:7], names=("000", "001", "002"))
    command = [*PREPARE, str(tmp_path / "tree"), str(tmp_path / "out"), "--workers", "1"]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)}
    done = subprocess.run(command, capture_output=True, text=True, **limit)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot write" in done.stderr and "File too large" in done.stderr and files_of(tmp_path / "out") == {}


def test_two_preparations_at_once(walk, plant, tmp_path):
    plant(tmp_path / "tree", walk[4:7])
    with locked(tmp_path / "out/.lock"), pytest.raises(faceforensics.InUseError, match="wait for it"):
        prepare(tmp_path / "tree", tmp_path / "out")


def one_dies(function, jobs, *, lost, **settings):
    yield lost(jobs[0], BrokenProcessPool())
    yield from map(function, jobs[1:])


def strange(item, settings, cut_video=cutting.cut_video):
    if item.name == "000":
        raise ZeroDivisionError(f"in {item.files['raw']}")
    return cut_video(item, settings)


@pytest.mark.parametrize(
    ("module", "function", "said"),
    [
        (parallel, one_dies, "the worker process died, out of memory perhaps; run again with fewer workers"),
        (cutting, strange, "unexpected ZeroDivisionError: in 000.mp4"),
    ],
)
def test_what_befalls_one_video_is_listed_and_tried_again(walk, plant, tmp_path, monkeypatch, module, function, said):
    plant(tmp_path / "tree", walk[4:7], names=("000", "001"))
    name = {parallel: "map_unordered", cutting: "cut_video"}[module]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, function)
        table = prepare(tmp_path / "tree", tmp_path / "out").set_index("video")
    assert set(table.loc["000", "reason"]) == {said} and set(table.loc["001", "status"]) == {"ok"}
    assert (prepare(tmp_path / "tree", tmp_path / "out")["status"] == "ok").all()


def test_things_that_are_no_video(walk, plant, tmp_path):
    paths = plant(tmp_path / "tree", walk[4:7], names=("000", "001", "002", "003", "004"))
    for name in ("000", "001", "002", "003"):
        paths[name, "raw"].unlink()
    paths["000", "raw"].symlink_to(tmp_path / "nowhere.mp4")
    paths["001", "raw"].mkdir()
    os.mkfifo(paths["002", "raw"])
    paths["003", "raw"].write_text("no video")
    table = prepare(tmp_path / "tree", tmp_path / "out").query("quality == 'raw'").set_index("video")["reason"]
    expected = "no video at 000.mp4", "001.mp4 holds no pictures", "no video at 002.mp4", "003.mp4 (8 bytes) cannot be", ""
    assert all(reason.startswith(text) for reason, text in zip(table, expected, strict=True)), table.tolist()
    # A link that is mended is read by the next run, although nothing about its name has changed.
    shutil.copy(paths["004", "raw"], tmp_path / "nowhere.mp4")
    assert prepare(tmp_path / "tree", tmp_path / "out").query("video == '000'")["status"].eq("ok").all()


def test_names_of_any_kind(walk, plant, tmp_path):
    root, out = tmp_path / "Daten für – 東京 [a-z]*", tmp_path / "out put [1] {2} ?" / 'ü, "x"'
    names = ["000", "Zoë film", "a,b", 'say "x"', "new\nline", "%d", "x" * 240]
    paths = plant(root, walk[4:6], names=["000"])
    for name, quality in ((name, quality) for name in names[1:] for quality in QUALITIES):
        shutil.copy(paths["000", quality], paths["000", quality].with_stem(name))
    shutil.copy(paths["000", "raw"], os.fsencode(paths["000", "raw"].parent) + b"/\xff\xfe.mp4")
    table = faceforensics.prepare(root, out, frames=2, workers=1)
    assert set(table["video"]) == {*names, "\udcff\udcfe"}
    again = faceforensics.read_manifest(out)
    assert again["video"].tolist() == table["video"].tolist() and again["crops"].tolist() == table["crops"].tolist()
    assert (again.loc[again["video"] != "\udcff\udcfe", "crops"] == 2).all()
    assert faceforensics.verify(out) == [] and faceforensics.data_hash(out)
