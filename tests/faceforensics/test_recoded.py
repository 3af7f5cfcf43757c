"""Crops under other conditions: those of the data set's own qualities are found again bit for bit, each is made once, and kept."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from addlib import codecs
from addlib.faceforensics import FacePairs, recoded, recoding
from addlib.faceforensics.recoded import RecodedPairs, recoded_crops


def compressed(pairs):
    return torch.stack([pairs[index][1] for index in range(len(pairs))])


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
    real = codecs.recode
    monkeypatch.setattr(codecs, "recode", lambda *a, **k: encoded.append(a[1]) or real(*a, **k))
    make()
    assert encoded == []
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    again = make()
    assert encoded == ["jpeg 30"] * 2
    assert torch.equal(compressed(again), compressed(first)) and again.kbits == first.kbits


def test_what_decides_the_bytes_names_the_folder(monkeypatch):
    before = recoding.made_with("vp9 40")
    assert before != recoding.made_with("vp9 41") and before == recoding.made_with("vp9 40")
    with monkeypatch.context() as patch:
        patch.setitem(codecs.CODECS, "vp9", codecs.Codec("libvpx-vp9", 63, {"cpu-used": "5"}))
        assert recoding.made_with("vp9 40") != before
    with monkeypatch.context() as patch:
        patch.setattr(recoding.provenance, "code_hash", lambda *_: "another")
        assert recoding.made_with("vp9 40") != before
    monkeypatch.setattr(recoding.provenance, "versions", lambda: {"av": "0"})
    assert recoding.made_with("vp9 40") != before


SLOW = """
import sys, time
from addlib import codecs, faceforensics
from addlib.faceforensics.recoded import recoded_crops
real = codecs.recode
def recode(*arguments, **settings):
    print("encoded", flush=True)
    time.sleep(1)
    return real(*arguments, **settings)
codecs.recode = recode
tree, out, cache = sys.argv[1:]
items = [item for item in faceforensics.discover(tree, ["FaceSwap"]) if item.label][:2]
print("ready", flush=True)
recoded_crops(items, out, "jpeg 30", cache=cache)
"""


def test_two_processes_encode_each_video_once(tree, prepared, tmp_path):
    command = [sys.executable, "-c", SLOW, str(tree), str(prepared), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(said).count("encoded") == 2 and len(list(tmp_path.rglob("*.npz"))) == 2


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
    assert torch.equal(compressed(one), compressed(two)) and one.kbits == two.kbits


def test_a_detector_takes_them(tree, prepared, tmp_path):
    from addlib.detectors import create_detector
    from addlib.training import predict

    pairs = RecodedPairs(tree, prepared, "Face2Face", "test", "h264 45", cache=tmp_path)
    answers = predict(create_detector("resnet18_narrow"), pairs, "mini")
    assert len(answers.probabilities) == len(pairs) and answers.videos == list(pairs.videos)


def test_missing_encoder_is_named(monkeypatch, tree, prepared, tmp_path):
    monkeypatch.setitem(codecs.CODECS, "av1", codecs.Codec("libnothing", 63))
    with pytest.raises(ValueError, match="libnothing"):
        RecodedPairs(tree, prepared, "FaceSwap", "test", "av1 38", cache=tmp_path)


def test_another_tree_is_refused(tree, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    data = FacePairs(prepared, "FaceSwap", "raw", "test")
    kind, name = data.videos[0].split("/")
    path = tmp_path / "out" / "crops" / kind / "raw" / f"{name}.npy"
    crops = np.load(path)
    crops[0, 0, 0, 0] ^= 1
    np.save(path, crops)
    record = tmp_path / "out" / "records" / kind / f"{name}.json"

    def make():
        return RecodedPairs(
            tree, tmp_path / "out", "FaceSwap", "test", "h264 30", videos=data.videos[:1], cache=tmp_path / "a"
        )

    with pytest.raises(ValueError, match="other crops"):
        make()
    found = json.loads(record.read_text())
    record.write_text(json.dumps({**found, "boxes": {"77": [0, 0, 9, 9]}}))
    with pytest.raises(ValueError, match="other crops"):
        make()
    del found["boxes"]  # as before there were boxes in it
    for text in (json.dumps(found), None):
        record.unlink() if text is None else record.write_text(text)
        with pytest.raises(FileNotFoundError, match="prepare"):
            make()
    with pytest.raises(FileNotFoundError, match="FaceForensics"):
        RecodedPairs(tmp_path, prepared, "FaceSwap", "test", "h264 30", cache=tmp_path / "a")


def test_faces_are_not_searched_again(tree, prepared, tmp_path, monkeypatch):
    item = next(item for item in recoded.discover(tree, ["FaceSwap"]) if item.label)
    monkeypatch.setattr(recoding.faces, "all_faces", None)
    ((crops, _),) = recoded_crops([item], prepared, "jpeg 75", cache=tmp_path)
    assert len(crops) == 2
