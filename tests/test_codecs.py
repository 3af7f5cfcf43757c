import json
import shutil

import av
import numpy as np
import pytest
import torch

from addlib import spectra
from addlib.faceforensics import FacePairs, conditions, recoded
from addlib.faceforensics.conditions import CONDITIONS, missing, parse, payload, recode
from addlib.faceforensics.recoded import RecodedPairs, recoded_crops
from addlib.video import read_frames, write_video

LACKING = missing()
each_condition = pytest.mark.parametrize(
    "condition",
    [pytest.param(c, marks=pytest.mark.skipif(c in LACKING, reason=LACKING.get(c, ""))) for c in CONDITIONS],
)
# One of each kind that is neither H.264 nor written by OpenCV.
OTHERS = [c for c in ("h265 30", "vp9 45", "av1 45") if c not in missing([c])]


def error(one, other):
    return np.mean((np.stack(list(one)).astype(float) - np.stack(list(other))) ** 2)


def test_steps_of_a_condition():
    assert parse("h264 40") == (("h264", 40),)
    assert parse("h264 23 > half > jpeg 30") == (("h264", 23), ("half", None), ("jpeg", 30))
    for condition in CONDITIONS:
        assert parse(condition)


@pytest.mark.parametrize(
    "wrong",
    ["", "mpeg2 5", "h264", "h264 52", "h264 -1", "h264 23.5", "vp9 64", "jpeg 0", "half 3", "h264 23 >", "H264 23", "h264 23 40"],
)  # fmt: skip
def test_steps_that_do_not_exist_are_named(wrong, walk):
    with pytest.raises(ValueError, match=r"none of half, h264 0\.\.51"):
        parse(wrong)
    with pytest.raises(ValueError, match="condition"):
        recode(walk, wrong)


@each_condition
def test_every_condition_keeps_the_scene_and_says_its_rate(condition, walk, capfd):
    seen = recode(walk, condition)
    assert list(seen.frames) == list(range(len(walk)))
    assert all(frame.shape == walk[0].shape and frame.dtype == np.uint8 for frame in seen.frames.values())
    own = error(seen.frames.values(), walk)
    assert 0 < own < 0.5 * error(seen.frames.values(), walk[1:] + walk[:1]), "it shows another moment"
    assert 0 < seen.kbits < 5000
    assert capfd.readouterr() == ("", ""), "an encoder talks"


@pytest.mark.parametrize(
    "family", [["h264 23", "h264 40"], ["h265 24", "h265 38"], ["vp9 40", "vp9 63"], ["av1 38", "av1 63"]]
)
def test_a_worse_quality_loses_more_and_takes_less(family, walk):
    if missing(family):
        pytest.skip(str(missing(family)))
    fine, coarse = (recode(walk, condition) for condition in family)
    assert error(fine.frames.values(), walk) < error(coarse.frames.values(), walk)
    assert fine.kbits > coarse.kbits


def test_lossless_returns_every_pixel(walk):
    seen = recode(walk, "h264 0")
    assert error(seen.frames.values(), walk) == 0


@pytest.mark.parametrize("condition", ["h264 23", "jpeg 75", "half > h264 23", *OTHERS])
def test_odd_sides_come_back(condition, walk):
    odd = [frame[:131, :97] for frame in walk[:3]]
    seen = recode(odd, condition)
    assert all(frame.shape == (131, 97, 3) for frame in seen.frames.values())
    assert error(seen.frames.values(), odd) < 200


@pytest.mark.parametrize("condition", OTHERS)
def test_same_frames_same_pictures(condition, walk):
    # With other memory in between, as in tests/test_video.py, where x264's AVX-512 code failed.
    rng, found = np.random.default_rng(1), []
    for _ in range(8):
        clutter = [rng.random((rng.integers(100, 400), 224, 3)) for _ in range(3)]
        found.append(recode(walk[:4], condition))
        del clutter
    for other in found[1:]:
        assert error(found[0].frames.values(), other.frames.values()) == 0 and found[0].kbits == other.kbits


def test_half_takes_the_upper_half_of_the_frequencies(walk):
    seen = recode(walk, "half")
    before, after = (spectra.luminance(np.stack(list(frames)).astype(float)) for frames in (walk, seen.frames.values()))
    low, high = spectra.retained(before, after, [0.02, 0.06, 0.35, 0.5])[[0, 2]]
    assert low > 0.95 and high < 0.15
    assert np.isnan(seen.kbits), "nothing was coded"
    flat = np.full((32, 48, 3), 77, np.uint8)
    np.testing.assert_array_equal(recode([flat], "half").frames[0], flat)


def test_a_chain_is_its_steps_and_its_rate_that_of_the_last_coding(walk):
    first = recode(walk, "h264 23")
    halved = recode(first.frames.values(), "half")
    last = recode(halved.frames.values(), "h264 40")
    chain = recode(walk, "h264 23 > half > h264 40")
    assert error(chain.frames.values(), last.frames.values()) == 0 and chain.kbits == last.kbits
    assert recode(walk, "h264 23 > half").kbits == first.kbits
    assert recode(walk, "h264 23 > jpeg 30").kbits > recode(walk, "jpeg 30 > h264 23").kbits


def test_images_do_not_depend_on_their_neighbours(walk):
    for condition in ("jpeg 30", "webp 30"):
        np.testing.assert_array_equal(recode(walk, condition).frames[5], recode(walk[5:6], condition).frames[0])


def test_only_the_wanted_frames_are_returned(walk):
    whole, some = recode(walk, "h264 35"), recode(iter(walk), "h264 35", wanted={2, 7})
    assert list(some.frames) == [2, 7] and some.kbits == whole.kbits
    assert all((some.frames[number] == whole.frames[number]).all() for number in (2, 7))


def test_rate_goes_with_the_speed(walk):
    slow, fast = (recode(walk, "jpeg 75", fps=fps).kbits for fps in (10, 30))
    assert fast == pytest.approx(3 * slow)


@pytest.mark.parametrize("condition", ["h264 23", "jpeg 75", "half", *OTHERS])
def test_bad_frames_are_named(condition, walk):
    with pytest.raises(ValueError, match="no frames|0 of 0 frames"):
        recode([], condition)
    with pytest.raises(ValueError, match="float64"):
        recode([walk[0].astype(float)], condition)
    with pytest.raises(ValueError, match="one size"):
        recode([walk[0], walk[0][:100]], condition)


def test_missing_encoders_are_listed_and_named(monkeypatch, walk, tree, prepared, tmp_path):
    monkeypatch.setitem(conditions.CODECS, "av1", conditions.Codec("libnothing", 63))
    lacking = missing(["h264 23", "av1 38", "half > av1 63"])
    assert list(lacking) == ["av1 38", "half > av1 63"]
    assert "libnothing" in lacking["av1 38"]
    with pytest.raises(ValueError, match="libnothing"):
        recode(walk, "av1 38")
    with pytest.raises(ValueError, match="libnothing"):
        RecodedPairs(tree, prepared, "FaceSwap", "test", "av1 38", cache=tmp_path)


def test_payload_leaves_the_encoders_remark_out(tmp_path, walk):
    write_video(tmp_path / "a.mp4", walk, 40)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    first, units = packets[0], []
    while first:  # units of a stream in MP4: four bytes of length, then the unit, whose type is in its first byte
        length = int.from_bytes(first[:4], "big")
        units.append((first[4] & 31, length + 4))
        first = first[4 + length :]
    remark = sum(size for kind, size in units if kind == 6)
    assert remark > 500
    assert payload(tmp_path / "a.mp4") == sum(map(len, packets)) - remark


@pytest.mark.parametrize(("condition", "quality"), [("h264 0", "raw"), ("h264 23", "c23"), ("h264 40", "c40")])
def test_the_qualities_of_the_data_are_found_again(condition, quality, tree, prepared, tmp_path):
    """Other functions cut and encoded those crops: the same boxes, the same frames, the same encoder settings, bit for bit."""
    data = FacePairs(prepared, "NeuralTextures", quality, "train")
    pairs = RecodedPairs(tree, prepared, "NeuralTextures", "train", condition, cache=tmp_path)
    own = RecodedPairs(tree, prepared, "NeuralTextures", "train", quality)
    expected = data.arrays()
    for index in range(len(data)):
        raw, seen, label = pairs[index]
        assert torch.equal(raw, expected[0][index]) and torch.equal(seen, expected[1][index])
        assert label == expected[2][index] and torch.equal(own[index][1], seen)
    assert list(pairs.videos) == list(data.videos) and list(pairs.frames) == list(data.frames)
    assert own.kbits == pytest.approx(pairs.kbits, rel=0.01)


def test_crops_are_kept_and_what_is_missing_or_damaged_is_made_again(tree, prepared, tmp_path, monkeypatch):
    def make():
        return RecodedPairs(tree, prepared, "FaceSwap", "test", "jpeg 30", cache=tmp_path)

    first, encoded = make(), []
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == len(set(first.videos)) and not list(tmp_path.rglob("*.part"))
    real = conditions.recode
    monkeypatch.setattr(conditions, "recode", lambda *a, **k: encoded.append(a[1]) or real(*a, **k))
    make()
    assert encoded == []
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    again = make()
    assert encoded == ["jpeg 30"] * 2
    assert torch.equal(again._sides[1], first._sides[1]) and again.kbits == first.kbits


def test_another_recipe_another_folder(tree, prepared, tmp_path, monkeypatch):
    names = {recoded._folder(condition) for condition in CONDITIONS}
    assert len(names) == len(CONDITIONS) and all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names
    )
    before = recoded._folder("vp9 40")
    monkeypatch.setitem(conditions.CODECS, "vp9", conditions.Codec("libvpx-vp9", 63, {"cpu-used": "5"}))
    assert recoded._folder("vp9 40") != before


def test_some_videos(tree, prepared, tmp_path):
    data = FacePairs(prepared, "FaceSwap", "c40", "train")
    some = [data.videos[-1], data.videos[0]]
    pairs = RecodedPairs(tree, prepared, "FaceSwap", "train", "webp 30", videos=some, cache=tmp_path)
    assert list(dict.fromkeys(pairs.videos)) == some[::-1], "the order is that of the split"
    assert len(pairs) == 4 and pairs.labels.tolist() == [0, 0, 1, 1] and len(list(tmp_path.rglob("*.npz"))) == 2
    ((_, _, labels),) = pairs.batches(4, shuffle=False)
    assert labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="no videos"):
        RecodedPairs(tree, prepared, "FaceSwap", "train", "webp 30", videos=["original/999"], cache=tmp_path)


def test_processes_give_the_same(tree, prepared, tmp_path):
    one, two = (
        RecodedPairs(tree, prepared, "FaceSwap", "val", "h264 30", cache=tmp_path / str(n), workers=n) for n in (1, 2)
    )
    assert torch.equal(one._sides[1], two._sides[1]) and one.kbits == two.kbits


def test_a_detector_takes_them(tree, prepared, tmp_path):
    from addlib.detectors import create_detector
    from addlib.training import predict

    pairs = RecodedPairs(tree, prepared, "Face2Face", "test", "h264 45", cache=tmp_path)
    answers = predict(create_detector("resnet18_narrow"), pairs, "mini")
    assert len(answers.probabilities) == len(pairs) and answers.videos == list(pairs.videos)


def test_another_tree_is_refused(tree, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    data = FacePairs(prepared, "FaceSwap", "raw", "test")
    kind, name = data.videos[0].split("/")
    path = tmp_path / "out" / "crops" / kind / "raw" / f"{name}.npy"
    crops = np.load(path)
    crops[0, 0, 0, 0] ^= 1
    np.save(path, crops)
    with pytest.raises(ValueError, match="other crops"):
        RecodedPairs(
            tree, tmp_path / "out", "FaceSwap", "test", "h264 30", videos=data.videos[:1], cache=tmp_path / "a"
        )
    (tmp_path / "out" / "records" / kind / f"{name}.json").unlink()
    with pytest.raises(FileNotFoundError, match="prepare"):
        RecodedPairs(
            tree, tmp_path / "out", "FaceSwap", "test", "h264 30", videos=data.videos[:1], cache=tmp_path / "a"
        )
    with pytest.raises(FileNotFoundError, match="FaceForensics"):
        RecodedPairs(tmp_path, prepared, "FaceSwap", "test", "h264 30", cache=tmp_path / "a")


def test_boxes_are_found_once(tree, prepared, tmp_path, monkeypatch):
    item = next(item for item in recoded.discover(tree, ["FaceSwap"]) if item.label)
    ((crops, _),) = recoded_crops([item], prepared, "jpeg 75", cache=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    boxes = json.loads(path.read_text())
    assert len(boxes) == len(crops) == 2 and [int(n) for n in boxes] == sorted(int(n) for n in boxes)
    monkeypatch.setattr(recoded, "find_faces", None)
    recoded_crops([item], prepared, "jpeg 30", cache=tmp_path)
    frames = list(read_frames(item.files["raw"]))
    assert all(0 <= int(number) < len(frames) for number in boxes)
