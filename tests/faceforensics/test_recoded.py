"""Crops under other conditions: those of the data set's own qualities are found again bit for bit, each is made once, and kept."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from addlib import codecs, faces, provenance
from addlib.faceforensics import FacePairs
from addlib.faceforensics.recoded import RecodedPairs


@pytest.fixture
def recoded(tree, prepared, tmp_path):
    def make(condition, kind="FaceSwap", split="test", cache="cache", root=tree, out=prepared, **settings):
        return RecodedPairs(root, out, kind, split, condition, cache=tmp_path / cache, **settings)

    return make


@pytest.mark.parametrize(("condition", "quality"), [("h264 0", "raw"), ("h264 23", "c23"), ("h264 40", "c40")])
def test_the_qualities_of_the_data_are_found_again(condition, quality, recoded, prepared, monkeypatch):
    """Other functions cut and encoded those crops: the same boxes, the same frames, the same encoder settings, bit for bit."""
    monkeypatch.setattr(faces, "all_faces", None)  # faces are not searched again
    data, pairs, own = FacePairs(prepared, "FaceSwap", quality, "test"), recoded(condition), recoded(quality)
    for index in range(len(data)):
        for one, other, third in zip(data[index], pairs[index], own[index], strict=True):
            assert np.array_equal(one, other) and np.array_equal(one, third)
    assert list(pairs.videos) == list(data.videos) and list(pairs.frames) == list(data.frames)
    assert own.kbits == pytest.approx(pairs.kbits, rel=0.01)


def compressed(pairs):
    return torch.stack([pairs[index][1] for index in range(len(pairs))])


def test_crops_are_kept_and_what_is_missing_damaged_or_of_other_code_is_made_again(recoded, tmp_path, monkeypatch):
    first, encoded = recoded("jpeg 30", workers=2), []
    files = sorted(tmp_path.rglob("*.kbits"))
    assert len(files) == len(set(first.videos)) and not list(tmp_path.rglob("*.part"))
    real = codecs.recode
    monkeypatch.setattr(codecs, "recode", lambda *a, **k: encoded.append(a[1]) or real(*a, **k))
    recoded("jpeg 30")
    assert encoded == []
    files[0].unlink()
    files[1].unlink()
    again = recoded("jpeg 30")
    assert encoded == ["jpeg 30"] * 2
    assert torch.equal(compressed(again), compressed(first)) and again.kbits == first.kbits
    for options in ({}, {"preset": "ultrafast"}):  # another codec of the same name
        monkeypatch.setitem(codecs.CODECS, "h264", codecs.Codec("libx264", 51, options))
        encoded.clear()
        recoded("h264 30")
        assert len(encoded) == len(files)
    for name in ("code_hash", "versions"):
        monkeypatch.setattr(provenance, name, {"code_hash": lambda *_: "other", "versions": lambda: {"av": "0"}}[name])
        encoded.clear()
        recoded("jpeg 30")
        assert len(encoded) == len(files)


def test_two_at_once_encode_each_video_once(recoded, monkeypatch):
    encoded, real = [], codecs.recode
    monkeypatch.setattr(codecs, "recode", lambda *a, **k: encoded.append(a) or time.sleep(0.3) or real(*a, **k))
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(recoded, ["jpeg 30"] * 2)
    assert len(encoded) == len(set(one.videos)) and torch.equal(compressed(one), compressed(other))


def test_some_videos(recoded, prepared, tmp_path):
    data = FacePairs(prepared, "FaceSwap", "c40", "train")
    some = [data.videos[-1], data.videos[0]]
    pairs = recoded("webp 30", split="train", videos=some)
    assert list(dict.fromkeys(pairs.videos)) == some[::-1], "the order is that of the split"
    ((_, _, labels),) = pairs.batches(4, shuffle=False)
    assert labels.tolist() == pairs.labels.tolist() == [0, 0, 1, 1] and len(list(tmp_path.rglob("*.kbits"))) == 2
    arrays = pairs.arrays()
    kept = recoded("c40", split="train", videos=some)
    for moved, seen in ((pairs, arrays), (kept, kept.arrays())):
        for place in ("cpu", None):
            for one, other in zip(moved.hold(place).arrays(), seen, strict=True):
                assert torch.equal(one, other) and len(one) == len(moved) == 4
        assert all(torch.equal(moved[i][side], seen[side][i]) for i in range(4) for side in (0, 1))
        assert not torch.equal(*seen[:2]), "raw is not taken for what was encoded"
    with pytest.raises(ValueError, match=r"no videos \[.* in this split; there are such as"):
        recoded("webp 30", videos=["original/999"])


def test_another_tree_is_refused(recoded, prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "out")
    name = FacePairs(prepared, "FaceSwap", "raw", "test").videos[0]
    path = out / "crops" / f"{name.replace('/', '/raw/')}.npy"
    crops = np.load(path)
    record = out / "records" / f"{name}.json"
    crops[0, 0, 0, 0] ^= 1
    np.save(path, crops)
    found = json.loads(record.read_text())
    for boxes in (found["boxes"], {"77": [0, 0, 9, 9]}):
        record.write_text(json.dumps({**found, "boxes": boxes}))
        with pytest.raises(ValueError, match="other crops"):
            recoded("h264 30", out=out, videos=[name])
    record.unlink()
    with pytest.raises(FileNotFoundError, match="prepare again"):
        recoded("h264 30", out=out, videos=[name])
    with pytest.raises(FileNotFoundError, match="FaceForensics"):
        recoded("h264 30", root=tmp_path)
