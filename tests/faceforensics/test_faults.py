"""Damaged files, full disks and killed processes: what is wrong is listed, the rest is done, and the next run ends with the same bytes."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import av
import numpy as np
import pytest

from addlib import faceforensics, parallel, video
from addlib.faceforensics import cutting, preparation
from addlib.files import locked

QUALITIES = ("raw", "c23", "c40")
DAMAGED, KILLS = 210, 33
PREPARE = (sys.executable, "-m", "addlib.cli", "prepare")


def files_of(out):
    """Everything that a preparation leaves, lock aside."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != preparation.LOCK
    }


def prepare(root, out, **settings):
    names = sorted({path.stem for path in (root / "original_sequences/youtube").rglob("*.mp4")} - {""})
    settings = {"frames": 3, "workers": 1, "splits": {"train": [[name for name in names if name.isalnum()]]}} | settings
    return faceforensics.prepare(root, out, **settings)


# Ways to spoil the bytes of a file: each takes a bytearray and a random.Random.
def cut(content, rng):
    return content[: rng.randrange(len(content))]


def flip_bits(content, rng):
    for _ in range(rng.choice((1, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def blank(content, rng):
    start, length = rng.randrange(len(content)), rng.choice((4, 64, 1024))
    content[start : start + length] = bytes(len(content[start : start + length]))
    return content


def scramble_boxes(content, rng):
    """Wrong values where the container keeps sizes, counts and kinds."""
    for box in (b"ftyp", b"moov", b"stsz", b"stco", b"stts", b"avcC", b"mdat", b"stsd", b"mdhd"):
        place = content.find(box)
        if place > 0 and rng.random() < 0.4:
            place += rng.randrange(-4, 24)
            content[place : place + 4] = rng.randbytes(4)
    return content


def lose_a_piece(content, rng):
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 100, 1000))]
    return content


def swap_halves(content, rng):
    middle = rng.randrange(1, len(content))
    return content[middle:] + content[:middle]


def noise(content, rng):
    return bytearray(rng.randbytes(rng.choice((0, 1, 100, 5000))))


SPOIL = (cut, flip_bits, blank, scramble_boxes, lose_a_piece, swap_halves, noise)


@pytest.mark.slow
def test_two_hundred_damaged_files(walk, plant, tmp_path):
    """Each video has one damaged quality; the others of it, and all other videos, come out as if nothing had happened."""
    rng = random.Random(0)
    good = plant(tmp_path / "good", walk[4:7], names=("000",))
    table = prepare(tmp_path / "good", tmp_path / "expected").set_index("quality")
    assert (table["status"] == "ok").all()
    damage = {}
    for index in range(DAMAGED):
        name, quality, spoil = f"{index:03d}", QUALITIES[index % 3], SPOIL[index // 3 % len(SPOIL)]
        damage[name] = quality, spoil.__name__
        for other in QUALITIES:
            path = tmp_path / "tree/original_sequences/youtube" / other / "videos" / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = good["000", other].read_bytes()
            path.write_bytes(spoil(bytearray(content), rng) if other == quality else content)
    found = prepare(tmp_path / "tree", tmp_path / "out")
    assert len(found) == 3 * DAMAGED
    noticed = 0
    for row in found.itertuples():
        quality, way = damage[row.video]
        case = (row.video, row.quality, quality, way, row.status, row.reason)
        assert row.status == "ok" or row.reason, case
        assert str(tmp_path) not in row.reason and "unexpected" not in row.reason, case
        noticed += row.quality == quality and row.status != "ok"
        if quality != "raw" and row.quality != quality:
            assert (row.status, row.crops_sha256) == ("ok", table["crops_sha256"][row.quality]), case
        if quality == "raw" and row.crops == 0:
            assert row.reason, case
    print(f"{DAMAGED} damaged files, {noticed} listed, {DAMAGED - noticed} spoilt where no frame or moment shows it")
    assert noticed > 0.75 * DAMAGED
    assert faceforensics.verify(tmp_path / "out") == []
    assert not list((tmp_path / "out").rglob("*.part"))
    before = files_of(tmp_path / "out")
    prepare(tmp_path / "tree", tmp_path / "out")
    assert files_of(tmp_path / "out") == before


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from addlib import faceforensics, faces

tree, outs, kills, splits = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), {"train": [sys.argv[4].split()]}
faces._detector()

def start(out):
    pid = os.fork()
    if pid == 0:
        try:
            faceforensics.prepare(tree, out, frames=3, workers=1, splits=splits)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return pid

def finish(pid):
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit("prepare failed")
    return os.WIFSIGNALED(status)

begin = time.monotonic()
finish(start(outs / "uninterrupted"))
usual = min(time.monotonic() - begin, 1.5)  # on a busy machine the moments lie early: what was done by then is kept
rng, killed, number = random.Random(1), 0, 0
while killed < kills:
    number += 1
    while True:
        pid = start(outs / str(number))
        if killed < kills:
            time.sleep(rng.uniform(0, 0.7 * usual))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not finish(pid):
            break
        killed += 1
print(killed, number)
"""


@pytest.mark.slow
def test_killed_at_any_moment(walk, plant, tmp_path):
    names = [f"{index:03d}" for index in range(5)]
    plant(tmp_path / "tree", walk[4:7], names=names)
    arguments = [str(tmp_path / "tree"), str(tmp_path / "outs"), str(KILLS), " ".join(names)]
    done = subprocess.run([sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    killed, runs = map(int, done.stdout.split())
    expected = files_of(tmp_path / "outs/uninterrupted")
    assert len(expected) == 5 * 3 + 5 + 1
    for number in range(1, runs + 1):
        assert files_of(tmp_path / "outs" / str(number)) == expected, f"run {number}"
    print(f"{killed} kills in {runs} preparations, each ended with the bytes of the uninterrupted one")
    assert killed >= KILLS


@pytest.mark.slow
def test_whole_command_killed_with_its_workers(walk, plant, tmp_path):
    names = [f"{index:03d}" for index in range(8)]
    plant(tmp_path / "tree", walk[4:7], names=names)
    faceforensics.prepare(tmp_path / "tree", tmp_path / "expected", frames=3, workers=1)
    command = [
        *PREPARE,
        str(tmp_path / "tree"),
        str(tmp_path / "out"),
        "--frames",
        "3",
    ]
    with subprocess.Popen(
        [*command, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        limit = time.monotonic() + 60
        while not list((tmp_path / "out").glob("records/*/*.json")) and time.monotonic() < limit:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert 0 < len(list((tmp_path / "out").glob("records/*/*.json"))) <= 8
    time.sleep(1)  # the workers notice
    faceforensics.prepare(tmp_path / "tree", tmp_path / "out", frames=3, workers=1)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "expected")


def test_full_disk_stops_with_a_clear_error_and_goes_on_later(walk, plant, tmp_path, monkeypatch):
    plant(tmp_path / "tree", walk[4:7], names=("000", "001", "002"))
    prepare(tmp_path / "tree", tmp_path / "expected")
    save, written = np.save, []

    def full(file, crops):
        written.append(len(crops))
        if len(written) == 5:
            raise faceforensics.OutputError(28, "No space left on device; run the same again")
        save(file, crops)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(faceforensics.OutputError, match="No space left on device.*run the same again"):
        prepare(tmp_path / "tree", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part")) and not (tmp_path / "out/manifest.csv").exists()
    assert len(list((tmp_path / "out").rglob("records/*/*.json"))) == 1, "what was finished is kept"
    prepare(tmp_path / "tree", tmp_path / "out")
    assert len(written) == 5 + 6
    assert files_of(tmp_path / "out") == files_of(tmp_path / "expected")


def test_limit_of_the_system_on_file_size(walk, plant, tmp_path):
    """A real refusal by the kernel, through the command line, with workers in other processes."""
    plant(tmp_path / "tree", walk[4:7], names=("000", "001", "002"))
    command = [
        *PREPARE,
        str(tmp_path / "tree"),
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot write" in done.stderr and "File too large" in done.stderr
    assert not list((tmp_path / "out").rglob("*.part")) and not list((tmp_path / "out").rglob("*.npy"))


def test_two_preparations_at_once(walk, plant, tmp_path):
    plant(tmp_path / "tree", walk[4:7])
    with locked(tmp_path / "out" / preparation.LOCK), pytest.raises(faceforensics.InUseError, match="wait for it"):
        prepare(tmp_path / "tree", tmp_path / "out")
    assert (prepare(tmp_path / "tree", tmp_path / "out")["status"] == "ok").all()


def test_lost_worker_is_listed_and_tried_again(walk, plant, tmp_path, monkeypatch):
    plant(tmp_path / "tree", walk[4:7], names=("000", "001"))
    whole = parallel.map_unordered

    def one_dies(function, jobs, *, lost, **settings):
        yield lost(jobs[0], BrokenProcessPool())
        yield from whole(function, jobs[1:], lost=lost, **settings)

    monkeypatch.setattr(parallel, "map_unordered", one_dies)
    table = prepare(tmp_path / "tree", tmp_path / "out").set_index(["video", "quality"])
    assert (table.loc["000", "status"] == "failed").all() and table.loc["000", "reason"].str.contains(
        "worker process died"
    ).all()
    assert (table.loc["001", "status"] == "ok").all()
    monkeypatch.undo()
    assert (prepare(tmp_path / "tree", tmp_path / "out")["status"] == "ok").all()


def test_whatever_a_library_raises_stays_with_its_video(walk, plant, tmp_path, monkeypatch):
    plant(tmp_path / "tree", walk[4:7], names=("000", "001"))
    cut_video = cutting.cut_video

    def strange(item, *rest):
        if item.name == "000":
            raise ZeroDivisionError(f"in {item.files['raw']}")
        return cut_video(item, *rest)

    monkeypatch.setattr(cutting, "cut_video", strange)
    table = prepare(tmp_path / "tree", tmp_path / "out").set_index(["video", "quality"])
    assert table.loc[("000", "c40"), "reason"] == "unexpected ZeroDivisionError: in 000.mp4"
    assert (table.loc["001", "status"] == "ok").all()
    monkeypatch.undo()
    assert (prepare(tmp_path / "tree", tmp_path / "out")["status"] == "ok").all(), "not taken for settled"


def test_things_that_are_no_video(walk, plant, tmp_path):
    names = ("000", "001", "002", "003", "004", "005")
    paths = plant(tmp_path / "tree", walk[4:7], names=names)
    for name in names[:5]:
        paths[name, "raw"].unlink()
    paths["000", "raw"].symlink_to(tmp_path / "nowhere.mp4")
    paths["001", "raw"].mkdir()
    os.mkfifo(paths["002", "raw"])
    with av.open(str(paths["003", "raw"]), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(paths["004", "raw"]), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
    table = prepare(tmp_path / "tree", tmp_path / "out").query("quality == 'raw'").set_index("video")
    expected = {"000": "link to nothing", "001": "holds no pictures", "002": "no regular file", "003": "no video stream"}
    for name, text in expected.items():
        assert table.loc[name, "status"] == "failed" and text in table.loc[name, "reason"], table.loc[name, "reason"]
    assert table.loc["004", "status"] == "failed" and table.loc["004", "reason"]
    assert table.loc["005", "status"] == "ok"
    # A link that is mended is read by the next run, although nothing about its name has changed.
    shutil.copy(paths["005", "raw"], tmp_path / "nowhere.mp4")
    assert (
        prepare(tmp_path / "tree", tmp_path / "out").set_index(["video", "quality"]).loc[("000", "raw"), "status"]
        == "ok"
    )


def test_names_of_any_kind(walk, plant, tmp_path):
    root, out = tmp_path / "Daten für – 東京 [a-z]*", tmp_path / "out put [1] {2} ?" / 'ü, "x"'
    strange = ["000", "Zoë film", "a,b", 'say "x"', "new\nline", "%d"]
    paths = plant(root, walk[4:6], names=strange)
    strange.append("x" * 240)
    for quality in QUALITIES:
        path = paths["000", quality]
        shutil.copy(path, path.with_stem("x" * 240))
    raw = paths["000", "raw"]
    shutil.copy(raw, os.fsencode(raw.parent) + b"/\xff\xfe.mp4")
    table = faceforensics.prepare(root, out, frames=2, workers=1)
    assert set(table["video"]) == {*strange, "\udcff\udcfe"}
    again = faceforensics.read_manifest(out)
    assert again["video"].tolist() == table["video"].tolist() and again["crops"].tolist() == table["crops"].tolist()
    assert (again.loc[again["video"] == "000", "status"] == "ok").all()
    assert (again.loc[again["video"] != "\udcff\udcfe", "crops"] == 2).all()
    assert faceforensics.verify(out) == [] and faceforensics.data_hash(out)


def test_other_frames_under_the_same_numbers_are_refused(walk, plant, tmp_path):
    paths = plant(tmp_path / "tree", walk[:10])
    video.write_video(paths["000", "c23"], walk[2:12], 23)
    table = prepare(tmp_path / "tree", tmp_path / "out", frames=10).set_index("quality")
    assert (
        table.loc["c23", "status"] == "failed"
        and "other moments than raw, about 2 frames" in table.loc["c23", "reason"]
    )
    assert table.loc["c40", "status"] == table.loc["raw", "status"] == "ok"
