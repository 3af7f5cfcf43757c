import shutil
import subprocess
import sys

import numpy as np
import pytest

from addlib import faceforensics, faces, parallel, provenance, video
from addlib.faceforensics.cutting import frame_order


def files_of(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def crops_of(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.npy"))} | {
        "manifest": (out / "manifest.csv").read_bytes()
    }


def copy_tree(tree, root, videos=None):
    """A tree of its own to spoil; ``videos`` keeps only those of original and FaceSwap."""
    for quality in ("raw", "c23", "c40"):
        for folder in ("original_sequences/youtube", "manipulated_sequences/FaceSwap"):
            shutil.copytree(tree / folder / quality, root / folder / quality)
    return root


def test_manifest_has_a_row_for_each_video_and_quality(prepared):
    table = faceforensics.read_manifest(prepared)
    assert len(table) == 8 * 6 * 3
    assert set(table["status"]) == {"ok"}
    assert (table["crops"] == 2).all() and (table["asked"] == 2).all()
    assert set(table["manipulation"]) == {"original", *faceforensics.MANIPULATIONS}
    assert ((table["label"] == 0) == (table["manipulation"] == "original")).all()
    assert table["crops_sha256"].str.len().eq(64).all() and table["source_sha256"].nunique() == len(table)
    for row in table.itertuples():
        crops = np.load(prepared / row.path, mmap_mode="r")
        assert crops.shape == (2, 128, 128, 3) and crops.dtype == np.uint8


def test_no_identity_is_in_two_splits(prepared):
    table = faceforensics.read_manifest(prepared)
    of_identity = {}
    for row in table.itertuples():
        for identity in row.ids.split("_"):
            of_identity.setdefault(identity, set()).add(row.split)
    assert len(of_identity) == 8 and all(len(found) == 1 for found in of_identity.values())
    assert set(table["split"]) == {"train", "val", "test"}


def test_qualities_are_aligned_to_the_pixel(tree, prepared):
    """Each quality's crops are what the box of the raw face cuts out of that quality's own frames, computed here anew."""
    row = faceforensics.read_manifest(prepared).query("manipulation == 'FaceSwap' and quality == 'raw'").iloc[0]
    where = tree / "manipulated_sequences/FaceSwap"
    numbers = sorted(frame_order(3, "FaceSwap", row.video, 0)[:2].tolist())
    raw = list(video.read_frames(where / f"raw/videos/{row.video}.mp4"))
    for quality in ("raw", "c23", "c40"):
        frames = list(video.read_frames(where / f"{quality}/videos/{row.video}.mp4"))
        expected = np.stack([faces.crop(frames[n], faces.largest_face(raw[n])) for n in numbers])
        np.testing.assert_array_equal(np.load(prepared / f"crops/FaceSwap/{quality}/{row.video}.npy"), expected)


def test_frames_are_drawn_by_seed(tree, tmp_path):
    few = {}
    for seed in (0, 1):
        faceforensics.prepare(tree, tmp_path / str(seed), manipulations=["FaceSwap"], frames=1, seed=seed, workers=1)
        few[seed] = crops_of(tmp_path / str(seed))
    assert set(few[0]) == set(few[1]) and few[0] != few[1]
    assert not np.array_equal(frame_order(300, "original", "071", 0), frame_order(300, "original", "054", 0))
    assert sorted(frame_order(300, "original", "071", 0)) == list(range(300))


def test_workers_do_not_matter(tree, prepared, tmp_path):
    faceforensics.prepare(tree, tmp_path, frames=2, workers=2)
    assert crops_of(tmp_path) == crops_of(prepared)


def test_second_run_keeps_what_is_done(tree, tmp_path):
    root, out = copy_tree(tree, tmp_path / "tree"), tmp_path / "out"
    first = faceforensics.prepare(root, out, frames=2, workers=1)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    gone = sorted(times)[0]
    gone.unlink()
    again = faceforensics.prepare(root, out, frames=2, workers=1)
    assert first.equals(again) and gone.exists()
    redone = {path for path in times if path.stat().st_mtime_ns != times[path]}
    assert {path.stem for path in redone} == {gone.stem}, "only that video was cut again"


def test_changed_source_or_settings_are_noticed(tree, tmp_path):
    root, out = copy_tree(tree, tmp_path / "tree"), tmp_path / "out"
    before = faceforensics.prepare(root, out, frames=2, workers=1)
    videos = sorted((root / "original_sequences/youtube/c40/videos").iterdir())
    shutil.copy(videos[0], videos[1])
    after = faceforensics.prepare(root, out, frames=2, workers=1)
    changed = before["crops_sha256"] != after["crops_sha256"]
    assert after[changed][["manipulation", "video", "quality"]].values.tolist() == [["original", videos[1].stem, "c40"]]
    smaller = faceforensics.prepare(root, out, frames=2, size=64, workers=1)
    assert np.load(out / smaller["path"][0]).shape == (2, 64, 64, 3)


def test_splits_of_the_user(tree, tmp_path):
    table = faceforensics.read_manifest(_prepare_faceswap(tree, tmp_path / "seeded"))
    pairs = sorted({tuple(row.ids.split("_")) for row in table.itertuples() if row.label})
    a, b = pairs[0]
    others = [[c, d] for c, d in pairs if c < d and {c, d} != {a, b}]
    own = {"train": [[a, b]], "val": others[:1], "test": others[1:2]}
    table = faceforensics.prepare(tree, tmp_path / "own", manipulations=["FaceSwap"], frames=1, splits=own, workers=1)
    assert set(table[table["split"] == "train"]["ids"]) == {a, b, f"{a}_{b}", f"{b}_{a}"}
    # The fourth pair is in no split: it is listed, and not cut.
    left = table[table["split"] == ""]
    assert len(left) == 4 * 3 and set(left["status"]) == {"failed"} and left["reason"].str.contains("no split").all()
    assert not set(left["crops"]) - {0}


def _prepare_faceswap(tree, out):
    faceforensics.prepare(tree, out, manipulations=["FaceSwap"], frames=1, workers=1)
    return out


def test_damaged_videos_become_rows(tree, tmp_path):
    root, out = copy_tree(tree, tmp_path / "tree"), tmp_path / "out"
    names = sorted(path.stem for path in (root / "original_sequences/youtube/raw/videos").iterdir())
    where = {quality: root / f"original_sequences/youtube/{quality}/videos" for quality in ("raw", "c23", "c40")}
    (where["raw"] / f"{names[0]}.mp4").write_bytes(b"")
    (where["c40"] / f"{names[1]}.mp4").write_text("not a video")
    (where["c23"] / f"{names[2]}.mp4").unlink()
    (where["raw"] / f"{names[3]}.mp4").unlink()
    video.write_video(where["raw"] / f"{names[4]}.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3, 0)
    frames = list(video.read_frames(where["c40"] / f"{names[5]}.mp4"))
    video.write_video(where["c40"] / f"{names[5]}.mp4", frames[:2], 40)
    noisy = list(video.read_frames(where["raw"] / f"{names[6]}.mp4"))
    for quality in where:
        video.write_video(
            where[quality] / f"{names[6]}.mp4",
            [noisy[0], np.full_like(noisy[1], 90), noisy[2]],
            video.QUALITIES[quality],
        )
    table = (
        faceforensics.prepare(root, out, frames=3, workers=1)
        .query("manipulation == 'original'")
        .set_index(["video", "quality"])
    )
    assert len(table) == 24

    def told(index, quality):
        row = table.loc[(names[index], quality)]
        return row.status, row.crops, row.reason

    for quality in ("raw", "c23", "c40"):
        status, crops, reason = told(0, quality)
        assert (status, crops) == ("failed", 0) and "0 bytes" in reason and str(tmp_path) not in reason
        assert told(3, quality)[0] == "failed" and "no raw file" in told(3, quality)[2]
        assert told(4, quality) == ("failed", 0, "a face in 0 of 3 frames")
        assert told(6, quality) == ("short", 2, "a face in 2 of 3 frames")
        assert told(7, quality)[0] == "ok"
    assert told(1, "c40")[0] == "failed" and f"{names[1]}.mp4" in told(1, "c40")[2] and told(1, "raw")[0] == "ok"
    assert told(2, "c23") == ("failed", 0, "no c23 file") and told(2, "c40")[0] == "ok"
    assert told(5, "c40")[0] == "failed" and "2 frames, raw has 3" in told(5, "c40")[2]


def test_bad_settings_are_named(tree, tmp_path):
    with pytest.raises(ValueError, match="raw must be among"):
        faceforensics.prepare(tree, tmp_path, qualities=("c23",))
    with pytest.raises(ValueError, match="frames is 0"):
        faceforensics.prepare(tree, tmp_path, frames=0)
    with pytest.raises(ValueError, match="DeepFakeDetection"):
        faceforensics.prepare(tree, tmp_path, manipulations=["DeepFakeDetection"])
    with pytest.raises(FileNotFoundError, match="original_sequences"):
        faceforensics.prepare(tmp_path / "nowhere", tmp_path)


def move(folder, into, change):
    for path in sorted(folder.rglob("*.mp4")):
        target = into / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_stem(change(path.stem)).symlink_to(path)
    return into


def test_what_cannot_end_well_is_known_before_a_video_is_cut(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "map_unordered", None)
    copy = copy_tree(tree, tmp_path / "tree")
    names = sorted(path.stem for path in (copy / "original_sequences/youtube/raw/videos").iterdir())

    def fails(match, root=copy, **settings):
        with pytest.raises(ValueError, match=match):
            faceforensics.prepare(root, tmp_path / "out", frames=1, workers=1, **settings)
        assert not (tmp_path / "out").exists()

    pairs = [[a.lstrip("0") or "0", b.lstrip("0") or "0"] for a, b in zip(names[::2], names[1::2], strict=True)]
    fails("zeros", splits={"train": pairs[:2], "val": pairs[2:3], "test": pairs[3:]})
    fails("no video on disk is in train", splits={"train": [["900", "901"]], "val": [["902", "903"]], "test": [["904", "905"]]})
    fails("the same number", root=move(copy, tmp_path / "other", lambda stem: stem.replace("00", "0", "_" in stem)))
    shutil.rmtree(copy / "manipulated_sequences/FaceSwap/c23")
    fails(r"holds FaceSwap in \['c40', 'raw'\], and no c23; fetch them, or prepare qualities raw c40 alone")
    shutil.rmtree(copy / "manipulated_sequences/FaceSwap/raw")
    fails(r"holds FaceSwap in \['c40'\], and no raw or c23; raw is needed")


def test_copy_of_one_quality(tree, tmp_path):
    for quality in ("c23", "c40"):
        shutil.rmtree(copy_tree(tree, tmp_path / quality) / "original_sequences/youtube" / quality)
        shutil.rmtree(tmp_path / quality / "manipulated_sequences/FaceSwap" / quality)
    with pytest.raises(ValueError, match="prepare qualities raw c23 alone"):
        faceforensics.prepare(tmp_path / "c40", tmp_path / "out", frames=1, workers=1)
    table = faceforensics.prepare(tmp_path / "c40", tmp_path / "out", frames=1, workers=1, qualities=("c23", "raw"))
    assert set(table["quality"]) == {"raw", "c23"} and set(table["status"]) == {"ok"}


def test_class_that_vanishes_is_said(tree, tmp_path, recwarn):
    root = copy_tree(tree, tmp_path / "tree")
    faceforensics.prepare(root, tmp_path / "out", frames=1, workers=1)
    assert not recwarn.list
    table = faceforensics.read_manifest(tmp_path / "out").query("manipulation == 'FaceSwap' and quality == 'c40' and split == 'val'")
    for name in table["video"]:
        (root / f"manipulated_sequences/FaceSwap/c40/videos/{name}.mp4").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"val has no crop of FaceSwap/c40 from 2 videos, for instance .*0 bytes") as told:
        faceforensics.prepare(root, tmp_path / "out", frames=1, workers=1)
    assert len(told) == 1


def test_capital_endings(tree, prepared, tmp_path):
    root = move(tree, tmp_path / "tree", str)
    for path in sorted(root.rglob("*.mp4")):
        path.rename(path.with_suffix(".MP4"))
    table = faceforensics.prepare(root, tmp_path / "out", frames=2, workers=1)
    assert table.equals(faceforensics.read_manifest(prepared))


def test_crops_of_other_code_or_libraries_are_cut_again(tree, tmp_path, monkeypatch):
    cut = []
    whole = parallel.map_unordered
    monkeypatch.setattr(parallel, "map_unordered", lambda f, jobs, **how: cut.append(len(jobs)) or whole(f, jobs, **how))

    def prepare():
        return faceforensics.prepare(tree, tmp_path, manipulations=["FaceSwap"], frames=1, workers=1)

    first = prepare()
    prepare()
    monkeypatch.setattr(provenance, "code_hash", lambda *_: "another")
    prepare()
    prepare()
    monkeypatch.setattr(provenance, "versions", lambda: {"av": "0"})
    assert prepare().equals(first)
    assert cut == [16, 0, 16, 0, 16]


def test_code_that_counts():
    """What decides a pixel of a crop does; what reads crops, spreads jobs or writes tables does not."""
    behind = set(provenance.modules_behind("addlib.faceforensics.cutting"))
    assert {"addlib.faces", "addlib.video", "addlib.clips", "addlib.faceforensics.matching"} <= behind
    assert not {"addlib.parallel", "addlib.faceforensics.manifest", "addlib.faceforensics.pairs"} & behind


def test_preparing_starts_without_torch_and_pandas():
    code = "import sys, addlib.faceforensics.preparation; print({'torch', 'pandas', 'scipy', 'cv2', 'distributed'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_verify_tells_what_changed(tree, tmp_path):
    out = _prepare_faceswap(tree, tmp_path / "out")
    assert faceforensics.verify(out) == []
    one, two, three = sorted(out.rglob("*.npy"))[:3]
    crops = np.load(one)
    crops[0, 0, 0, 0] ^= 1
    np.save(one, crops)
    two.unlink()
    three.write_bytes(three.read_bytes()[:500])
    problems = faceforensics.verify(out)
    assert len(problems) == 3
    for path, word in ((one, "changed"), (two, "missing"), (three, "not readable")):
        assert any(path.relative_to(out).as_posix() in problem and word in problem for problem in problems)


def test_data_hash_stands_for_the_data(tree, prepared, tmp_path):
    assert faceforensics.data_hash(prepared) == faceforensics.data_hash(prepared)
    assert len(faceforensics.data_hash(prepared)) == 12
    assert faceforensics.data_hash(_prepare_faceswap(tree, tmp_path)) != faceforensics.data_hash(prepared)
    with pytest.raises(FileNotFoundError, match="addlib prepare"):
        faceforensics.data_hash(tmp_path / "nowhere")
