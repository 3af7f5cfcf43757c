import shutil

import numpy as np
import pytest

from addlib import faceforensics, faces, parallel, provenance, video
from addlib.faceforensics.cutting import frame_order


def files_of(out, pattern="*"):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob(pattern) if path.is_file()}


def prepare(root, out, **settings):
    return faceforensics.prepare(root, out, **({"manipulations": ["FaceSwap"], "frames": 1, "workers": 1} | settings))


@pytest.fixture
def copy(tree, tmp_path):
    """A tree of its own to spoil, with one manipulation."""
    for folder in ("original_sequences/youtube", "manipulated_sequences/FaceSwap"):
        shutil.copytree(tree / folder, tmp_path / "tree" / folder)
    return tmp_path / "tree"


@pytest.fixture
def cut(monkeypatch):
    """How many videos each preparation cut."""
    counts, whole = [], parallel.map_unordered
    counting = lambda f, jobs, **how: counts.append(len(jobs)) or whole(f, jobs, **how)  # noqa: E731
    monkeypatch.setattr(parallel, "map_unordered", counting)
    return counts


def test_manifest_has_a_row_for_each_video_and_quality(prepared):
    table = faceforensics.read_manifest(prepared)
    assert len(table) == 8 * 6 * 3 and set(table["status"]) == {"ok"} and (table["note"] == "").all()
    assert (table["crops"] == 2).all() and (table["asked"] == 2).all()
    assert set(table["manipulation"]) == {"original", *faceforensics.MANIPULATIONS}
    assert ((table["label"] == 0) == (table["manipulation"] == "original")).all()
    assert table["crops_sha256"].str.len().eq(64).all() and table["source_sha256"].nunique() == len(table)
    for path in table["path"]:
        crops = np.load(prepared / path, mmap_mode="r")
        assert crops.shape == (2, 128, 128, 3) and crops.dtype == np.uint8
    people = table.assign(id=table["ids"].str.split("_")).explode("id").groupby("id")["split"]
    assert len(people) == 8 and (people.nunique() == 1).all() and set(table["split"]) == {"train", "val", "test"}


def test_people_may_be_named_by_words_and_workers_be_elsewhere(tree, tmp_path, monkeypatch):
    """Their fakes are in the split of both; and no path that a worker gets hangs on where the command was called."""
    name = "anna bob carl dora emil fred gina hans".split().__getitem__
    for folder in ("original_sequences/youtube", "manipulated_sequences/FaceSwap"):
        for path in (tree / folder / "raw" / "videos").iterdir():
            stem = "_".join(name(int(number)) for number in path.stem.split("_")) + "__take1" * ("_" in path.stem)
            (copy := tmp_path / "words" / folder / "raw" / "videos" / f"{stem}.mp4").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    given, whole = [], parallel.map_unordered
    monkeypatch.setattr(parallel, "map_unordered", lambda f, jobs, **how: given.extend(jobs) or whole(f, jobs, **how))
    monkeypatch.chdir(tmp_path)
    table = prepare("words", "out", qualities=["raw"])
    people = table.assign(id=table["ids"].str.split("_")).explode("id").groupby("id")["split"]
    assert len(people) == 8 and (people.nunique() == 1).all() and set(table["split"]) == {"train", "val", "test"}
    assert all(item.files["raw"].is_absolute() and out.is_absolute() for item, out, _ in given)


def test_qualities_are_aligned_to_the_pixel(tree, prepared):
    """Each quality's crops are what the box of the raw face cuts out of that quality's own frames, computed here anew."""
    name = faceforensics.read_manifest(prepared).query("manipulation == 'FaceSwap'")["video"].iloc[0]
    numbers = sorted(frame_order(3, "FaceSwap", name, 0)[:2].tolist())
    path = tree / "manipulated_sequences/FaceSwap"
    raw, *others = ([*video.read_frames(path / f"{q}/videos/{name}.mp4")] for q in ("raw", "c23", "c40"))
    for quality, frames in zip(("raw", "c23", "c40"), (raw, *others), strict=True):
        expected = np.stack([faces.crop(frames[n], faces.largest_face(raw[n])) for n in numbers])
        np.testing.assert_array_equal(np.load(prepared / f"crops/FaceSwap/{quality}/{name}.npy"), expected)


def test_workers_and_capital_endings_do_not_matter(tree, prepared, tmp_path):
    for path in tree.rglob("*.mp4"):
        link = tmp_path / "tree" / path.relative_to(tree).with_suffix(".MP4")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    faceforensics.prepare(tmp_path / "tree", tmp_path / "out", frames=2, workers=2)
    for pattern in ("*.npy", "manifest.csv"):
        assert files_of(tmp_path / "out", pattern) == files_of(prepared, pattern)


def test_what_is_done_and_unchanged_is_kept(copy, tmp_path, cut, monkeypatch):
    out = tmp_path / "out"
    first = prepare(copy, out)
    before = files_of(out)
    assert prepare(copy, out).equals(first) and cut == [16, 0]
    paths = sorted(out.rglob("*.npy"))
    paths[0].unlink()
    paths[5].write_bytes(paths[5].read_bytes()[:1000])  # as of a machine that lost power
    assert prepare(copy, out).equals(first) and cut[2:] == [2] and files_of(out) == before
    sorted((out / "records").rglob("*.json"))[0].write_text("{}")
    assert prepare(copy, out).equals(first) and cut.pop() == 1 and files_of(out) == before
    one, other, *_ = sorted((copy / "original_sequences/youtube/c40/videos").iterdir())
    shutil.copy(one, other)
    after = prepare(copy, out)
    changed = after[first["crops_sha256"] != after["crops_sha256"]]
    assert changed[["manipulation", "video", "quality"]].values.tolist() == [["original", other.stem, "c40"]]
    monkeypatch.setattr(provenance, "code_hash", lambda *_: "another")
    prepare(copy, out)
    monkeypatch.setattr(provenance, "versions", lambda: {"av": "0"})
    assert prepare(copy, out).equals(after) and cut[3:] == [1, 16, 16]
    smaller = prepare(copy, out, size=64)
    assert np.load(out / smaller["path"][0]).shape == (1, 64, 64, 3)
    # Code counts that decides a pixel of a crop; what reads crops, spreads jobs or writes tables does not.
    behind = set(provenance.modules_behind("addlib.faceforensics.cutting"))
    assert {"addlib.faces", "addlib.video", "addlib.clips", "addlib.faceforensics.matching"} <= behind
    assert not {"addlib.parallel", "addlib.faceforensics.manifest", "addlib.faceforensics.pairs"} & behind


def test_splits_of_the_user(tree, tmp_path):
    ids = {video.ids for video in faceforensics.discover(tree, ["FaceSwap"]) if video.label}
    (a, b), *others = sorted([c, d] for c, d in ids if c < d)
    (tmp_path / "mine").mkdir()
    strangers, own = tmp_path / "mine/.0123456789abcdef.part", tmp_path / "crops/.0123456789abcdef.part"
    for part in (strangers, own):
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(b"half")
    with pytest.warns(UserWarning, match="val of the splits name nobody"):
        prepare(tree, tmp_path, splits={"train": [[a, b]], "val": [], "test": others[1:2]})
    assert strangers.exists() and not own.exists()
    table = prepare(tree, tmp_path, splits={"train": [[a, b]], "val": others[:1], "test": others[1:2]})
    assert set(table[table["split"] == "train"]["ids"]) == {a, b, f"{a}_{b}", f"{b}_{a}"}
    left = table[table["split"] == ""]
    assert len(left) == 4 * 3 and left["reason"].str.contains("no split").all(), "listed, and not cut"
    assert set(left["status"]) == {"failed"} and set(left["crops"]) == {0}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"qualities": ("c23",)}, "and raw, on which"),
        ({"frames": 0}, "frames is 0; expected a whole number of at least 1"),
        ({"frames": 2.0}, "frames is 2.0; expected a whole"),
        ({"size": 32.5}, "size is 32.5; expected a whole"),
        ({"seed": -1}, "seed is -1; expected a whole"),
        ({"upsample": 0.5}, "upsample is 0.5; expected a whole"),
        ({"search": 40}, "search is 40; expected a whole number of at least 80"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": 0}, "scale is 0"),
        ({"splits": {}}, "splits are named"),
        ({"splits": {"train": [["0", "1"]], "val": [["2", "3"]], "test": [["4", "5"]]}}, "zeros"),
        ({"splits": {"train": [["900", "901"]]}}, "no video on disk is in train"),
        ({"without": ("c23",)}, r"holds FaceSwap in \['raw', 'c40'\], and no c23; .* prepare qualities raw,c40 alone"),
        ({"without": ("raw", "c23")}, r"FaceSwap in \['c40'\], and no raw or c23; fetch it: faces are found on raw"),
    ],
)
def test_what_cannot_end_well_is_known_before_a_video_is_cut(copy, tmp_path, cut, settings, match):
    for quality in settings.pop("without", ()):
        shutil.rmtree(copy / "manipulated_sequences/FaceSwap" / quality)
    with pytest.raises(ValueError, match=match):
        prepare(copy, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists() and not cut


def test_data_hash_stands_for_the_data(tree, tmp_path):
    hashes = []
    for seed in (0, 0, 1):  # of split and frames
        prepare(tree, tmp_path, seed=seed)
        hashes.append(faceforensics.data_hash(tmp_path))
    assert hashes[0] == hashes[1] != hashes[2] and len(hashes[0]) == 12


def test_a_relative_folder_without_a_manifest_is_named_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no manifest.csv in crops, seen from the working directory {tmp_path}"):
        faceforensics.read_manifest("crops")
    with pytest.raises(FileNotFoundError, match=f"no manifest.csv in {tmp_path}; prepare it first: addlib prepare"):
        faceforensics.data_hash(tmp_path)
