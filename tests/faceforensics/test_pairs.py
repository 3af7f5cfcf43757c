import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from addlib.faceforensics import FacePairs, flip_together, read_manifest


def test_items_are_the_crops(prepared):
    data = FacePairs(prepared, "FaceSwap", "c40", "train")
    table = read_manifest(prepared).query(
        "split == 'train' and quality == 'raw' and manipulation in ['original', 'FaceSwap']"
    )
    assert len(data) == table["crops"].sum() == 16
    assert data.labels.tolist() == [0] * 8 + [1] * 8
    for index in (0, 7, 8, 15):
        raw, compressed, label = data[index]
        where, frame = data.videos[index].split("/"), data.frames[index]
        assert label == (where[0] != "original")
        for crop, quality in ((raw, "raw"), (compressed, "c40")):
            assert crop.dtype == torch.uint8 and crop.shape == (3, 128, 128)
            stored = np.load(prepared / "crops" / where[0] / quality / f"{where[1]}.npy")[frame]
            np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), stored)


def test_pair_shows_the_same_face(prepared):
    raw, compressed, _ = FacePairs(prepared, "Deepfakes", "c23", "train")[0]
    other = FacePairs(prepared, "Deepfakes", "c23", "train")[6][1]
    distance = (raw.float() - compressed).square().mean()
    assert distance < 0.2 * (raw.float() - other).square().mean()


def test_whole_set_at_once(prepared):
    data = FacePairs(prepared, "FaceSwap", "c23", "train")
    raw, compressed, labels = data.arrays()
    for index in range(len(data)):
        one, two, label = data[index]
        assert torch.equal(raw[index], one) and torch.equal(compressed[index], two) and labels[index] == label


def test_workers_load_the_same(prepared):
    data = FacePairs(prepared, "FaceSwap", "c40", "train")
    one = torch.cat([batch[1] for batch in DataLoader(data, batch_size=5)])
    two = torch.cat([batch[1] for batch in DataLoader(data, batch_size=5, num_workers=2)])
    assert torch.equal(one, two)


def test_flip_takes_both_or_neither():
    raw = torch.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4).repeat(40, 1, 1, 1)
    flipped, compressed = flip_together(raw, raw + 1, generator=torch.Generator().manual_seed(0))
    mirrored = (flipped != raw).flatten(1).any(1)
    assert 20 < mirrored.sum() < 60
    assert torch.equal(compressed, flipped + 1)
    assert torch.equal(flipped[mirrored], raw[mirrored].flip(-1))
    again, _ = flip_together(raw, raw + 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flipped, again)
    with pytest.raises(ValueError, match="same frames"):
        flip_together(raw, raw[:3])


def test_dataset_flips_the_pair(prepared):
    plain = FacePairs(prepared, "FaceSwap", "c40", "train")
    mirrored = FacePairs(prepared, "FaceSwap", "c40", "train", flip=1.0)
    for one, other in zip(plain[3][:2], mirrored[3][:2], strict=True):
        assert torch.equal(one.flip(-1), other)


def test_video_without_a_partner_is_left_out_and_listed(prepared, tmp_path):
    import shutil

    shutil.copytree(prepared, tmp_path / "out")
    table = read_manifest(prepared)
    row = table.query("split == 'train' and quality == 'c40' and manipulation == 'original'").index[0]
    table.loc[row, ["status", "reason", "crops"]] = ["failed", "no c40 file", 0]
    table.to_csv(tmp_path / "out/manifest.csv", index=False)
    data = FacePairs(tmp_path / "out", "FaceSwap", "c40", "train")
    assert len(data) == 14 and data.left_out == [("original", table.loc[row, "video"], "no c40 file")]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("Deepfake", "c40", "train"), "Deepfakes"),
        (("FaceSwap", "c30", "train"), "c23"),
        (("FaceSwap", "c40", "dev"), "val"),
    ],
)
def test_unknown_names_are_told_what_there_is(prepared, arguments, named):
    with pytest.raises(ValueError, match=named):
        FacePairs(prepared, *arguments)
