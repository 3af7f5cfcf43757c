"""Trees as people have them: images in place of videos, frames dropped, files missing, small faces, several faces, actors."""

import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from addlib import faceforensics, faces, video


def prepare(root, out, frames=4, **settings):
    settings = {"splits": {"train": [["000"]]}, "workers": 1} | settings
    return faceforensics.prepare(root, out, frames=frames, **settings).set_index("quality")


def crops(out, quality):
    return np.load(out / "crops/original" / quality / "000.npy")


def expected(frames, raw):
    return np.stack([faces.crop(frame, faces.largest_face(one)) for frame, one in zip(frames, raw, strict=True)])


def extract(path):
    """What the extraction script of FaceForensics++ does: images/000/0000.png beside videos/000.mp4, which goes away."""
    folder = path.parents[1] / "images" / path.stem
    folder.mkdir(parents=True)
    for number, frame in enumerate(video.read_frames(path)):
        Image.fromarray(frame).save(folder / f"{number:04d}.png")
    path.unlink()


@pytest.mark.parametrize("which", [("raw",), ("c40",), ("raw", "c23", "c40")])
def test_images_give_the_crops_of_the_videos(walk, plant, tmp_path, which):
    paths = plant(tmp_path / "tree", walk[:6])
    prepare(tmp_path / "tree", tmp_path / "one")
    for quality in which:
        extract(paths["000", quality])
    table = prepare(tmp_path / "tree", tmp_path / "other")
    assert (table["status"] == "ok").all() and table["source_sha256"].str.len().eq(64).all()
    for quality in ("raw", "c23", "c40"):
        np.testing.assert_array_equal(crops(tmp_path / "one", quality), crops(tmp_path / "other", quality))
        assert table.loc[quality, "note"] == ("from extracted images" if quality in which else "")


def test_dropped_frames_are_stepped_over_by_time(walk, plant, write_timed, tmp_path):
    """c23 lost frame 5; its later frames keep their times. Every crop that is cut shows raw's moment."""
    paths = plant(tmp_path / "tree", walk)
    numbers = [n for n in range(12) if n != 5]
    kept = [walk[n] for n in numbers]
    write_timed(paths["000", "c23"], kept, numbers)
    table = prepare(tmp_path / "tree", tmp_path / "out", frames=11)
    assert (table["status"] == "ok").all() and (table["crops"] == 11).all()
    assert table.loc["c23", "note"] == "11 of 12 frames aligned by presentation time" and table.loc["c40", "note"] == ""
    for quality, frames in (("raw", kept), ("c23", video.read_frames(paths["000", "c23"]))):
        np.testing.assert_array_equal(crops(tmp_path / "out", quality), expected(frames, kept))


def test_what_does_not_fit_raw_is_refused(walk, plant, write_timed, tmp_path):
    """c23: numbers and times say that the last frame is missing, the pictures that it is the third. c40: another size."""
    paths = plant(tmp_path / "tree", walk)
    write_timed(paths["000", "c23"], [walk[n] for n in range(12) if n != 2], range(11))
    video.write_video(paths["000", "c40"], [frame[:200] for frame in walk], 40)
    table = prepare(tmp_path / "tree", tmp_path / "out", frames=11)
    assert table["status"].to_dict() == {"raw": "ok", "c23": "failed", "c40": "failed"}
    assert "other moments than raw, about 1 frames later under the same number" in table.loc["c23", "reason"]
    assert "of (200, 224)" in table.loc["c40", "reason"]


def test_what_is_missing_becomes_rows(walk, plant, tmp_path):
    paths = plant(tmp_path / "tree", [*walk[4:6], np.full_like(walk[0], 90)], names=("000", "001", "002"))
    paths["000", "c23"].unlink()
    paths["001", "raw"].unlink()
    table = prepare(tmp_path / "tree", tmp_path / "out", frames=3, splits={"train": [["000", "001", "002"]]})
    table = table.reset_index().set_index(["video", "quality"])[["status", "crops", "reason"]]
    told = {key: tuple(row) for key, row in zip(table.index, table.itertuples(index=False), strict=True)}
    short = "short", 2, "a face in 2 of 3 frames"
    assert told["000", "c23"] == ("failed", 0, "no c23 file") and told["000", "c40"] == told["000", "raw"] == short
    assert told["001", "raw"] == ("failed", 0, "no raw file")
    assert told["001", "c40"] == told["001", "c23"] == ("failed", 0, "raw: no raw file")
    assert told["002", "c23"] == told["002", "c40"] == told["002", "raw"] == short


def test_small_faces_are_found_a_scale_up(walk, plant, tmp_path):
    small = [cv2.resize(f, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)[:132, :132] for f in walk[4:8]]
    plant(tmp_path / "tree", small)
    table = prepare(tmp_path / "tree", tmp_path / "out")
    assert (table["status"] == "ok").all() and table["note"].eq("faces found at upsample 1").all()
    with pytest.warns(UserWarning, match="train has no crop of original/raw"):
        table = prepare(tmp_path / "tree", tmp_path / "without", retry=0)
    assert (table["status"] == "failed").all() and table["reason"].eq("a face in 0 of 4 frames").all()


def test_large_frames_are_searched_small_and_cut_whole(walk, plant, tmp_path):
    large = [cv2.resize(frame, (672, 672), interpolation=cv2.INTER_CUBIC) for frame in walk[4:6]]
    plant(tmp_path / "tree", large)
    prepare(tmp_path / "tree", tmp_path / "out", frames=2, search=224)
    box = faces.largest_face(large[0], search=224)
    np.testing.assert_array_equal(crops(tmp_path / "out", "raw")[0], faces.crop(large[0], box))


def test_several_faces_are_noted(walk, plant, tmp_path):
    scene = np.full((2, 230, 430, 3), 90, np.uint8)
    for picture, frame in zip(scene, walk[6:8], strict=True):
        picture[:190, :190] = cv2.resize(frame, (190, 190), interpolation=cv2.INTER_AREA)
        picture[:224, 200:424] = frame
    plant(tmp_path / "tree", scene)
    table = prepare(tmp_path / "tree", tmp_path / "out", frames=2)
    assert table["note"].eq("several faces in 2 frames, the largest kept").all()
    np.testing.assert_array_equal(crops(tmp_path / "out", "raw"), expected(scene, scene))


def test_actors_need_a_split_and_are_paired_with_their_fakes(walk, plant, tmp_path):
    plant(tmp_path / "tree", walk[4:6], ("01__walking", "02__walking"), "original_sequences/actors")
    fakes = ("01_02__walking__ABCDEFGH", "02_01__walking__ABCDEFGH")
    plant(tmp_path / "tree", walk[4:6], fakes, "manipulated_sequences/DeepFakeDetection")
    settings = {"manipulations": ["DeepFakeDetection"], "qualities": ("raw", "c40"), "frames": 2}
    with pytest.raises(ValueError, match="no official split"):
        prepare(tmp_path / "tree", tmp_path / "out", splits=None, **settings)
    prepare(tmp_path / "tree", tmp_path / "out", splits={"train": [["01", "02"]]}, **settings)
    data = faceforensics.FacePairs(tmp_path / "out", "DeepFakeDetection", "c40", "train")
    names = {"actors/01__walking", "actors/02__walking"}
    assert data.labels.tolist() == [0] * 4 + [1] * 4 and set(data.videos[:4]) == names


def test_memory_does_not_grow_with_the_length_of_a_video(walk, plant, tmp_path):
    peaks = []
    for length in (12, 72):
        plant(tmp_path / str(length), (walk + walk[::-1]) * 3 if length == 72 else walk)
        tracemalloc.start()
        prepare(tmp_path / str(length), tmp_path / f"out{length}", frames=3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], f"{peaks} bytes; sixty more frames are 9 MB"
