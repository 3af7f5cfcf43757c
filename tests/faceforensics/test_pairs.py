import os
import shutil
import time

import numpy as np
import pytest
import torch

from addlib.faceforensics import FacePairs, pairs, read_manifest
from addlib.faceforensics.pairs import normalised

NAMES = ("FaceSwap", "c40", "train")


def test_items_are_the_crops(prepared):
    data, held = FacePairs(prepared, *NAMES), FacePairs(prepared, *NAMES, device="cpu")
    table = read_manifest(prepared).query("split == 'train' and quality == 'raw'")
    crops = table.loc[table["manipulation"].isin(["original", "FaceSwap"]), "crops"]
    assert len(data) == crops.sum() == 16 and data.size == 128
    assert data.labels.tolist() == [0] * 8 + [1] * 8
    for index in range(16):
        where, frame = data.videos[index].split("/"), data.frames[index]
        assert data[index][2] == held[index][2] == (where[0] != "original")
        for side, quality in enumerate(("raw", "c40")):
            stored = np.load(prepared / "crops" / where[0] / quality / f"{where[1]}.npy")[frame].transpose(2, 0, 1)
            for crop in (data[index][side], held[index][side], data.arrays()[side][index]):
                assert crop.dtype == torch.uint8 and np.array_equal(crop, stored)


@pytest.mark.parametrize(
    "settings",
    [{"flip": 0.5, "workers": 2}, {"shuffle": False, "drop_last": True}, {"seed": 3, "epoch": 2}, {"raw": False}],
)
def test_disk_and_memory_give_the_same_batches(prepared, settings):
    one = list(FacePairs(prepared, *NAMES).batches(5, **settings))
    others = [FacePairs(prepared, *NAMES, device=d) for d in ["cpu"] + ["cuda"] * torch.cuda.is_available()]
    others.append(FacePairs(prepared, *NAMES, device="cpu", sides=iter(["compressed"])))
    for other in [list(other.batches(5, **settings)) for other in others]:
        assert len(one) == len(other) == (3 if settings.get("drop_last") else 4)
        for left, right in zip(one, other, strict=True):
            assert (left[0] is None) == (right[0] is None) == (settings.get("raw") is False)
            assert all(a is b or torch.equal(a, b.cpu()) for a, b in zip(left, right, strict=True))


def test_batches_are_the_crops_in_the_order_that_the_book_was_made_with(prepared):
    """Numbers on the pages rest on this order and mirroring, drawn by an earlier form of this code."""
    order = [5, 4, 13, 8, 11, 9, 15, 0, 6, 12, 2, 3, 7, 10, 1, 14]
    mirrored = [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 0]  # by index, not by place
    data = FacePairs(prepared, *NAMES, device="cpu")
    ((raw, compressed, labels),) = data.batches(16, seed=2, epoch=3, flip=0.5)
    for place, index in enumerate(order):
        for side, batch in enumerate((raw, compressed)):
            assert torch.equal(batch[place], data[index][side].flip(-1) if mirrored[index] else data[index][side])
        assert labels[place] == data[index][2]
    others = [next(data.batches(16, seed=seed, epoch=epoch))[1] for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(other[:, 0, 0, 0].tolist()) for other in others}) == 3


def test_normalised_values_round_as_they_always_did():
    values = torch.arange(256, dtype=torch.uint8)
    expected = ((values.numpy().astype(np.float32) / np.float32(255)) - np.float32(0.5)) / np.float32(0.5)
    np.testing.assert_array_equal(normalised(values, 0.5, 0.5).numpy(), expected)


@pytest.mark.parametrize("whole", [True, False])
def test_processes_share_an_epoch(prepared, whole):
    data = FacePairs(prepared, *NAMES, device="cpu")
    shares = [list(data.batches(4, shuffle=whole, drop_last=whole, rank=rank, world=3)) for rank in range(3)]
    seen = [crop.numpy().tobytes() for share in shares for _, compressed, _ in share for crop in compressed]
    assert len(seen) == len(set(seen)) == (12 if whole else 16)
    assert not whole or [len(share) for share in shares] == [1, 1, 1]


def test_a_folder_is_found_from_anywhere_and_settings_that_make_no_batch_are_named(prepared, monkeypatch, tmp_path):
    monkeypatch.chdir(prepared.parent)
    data = FacePairs(prepared.name, *NAMES)
    monkeypatch.chdir(tmp_path)
    assert len(list(data.batches(4, seed=np.int64(3)))) == 4
    for settings in ({"batch_size": 0}, {"flip": 2.0}, {"rank": 3, "world": 2}):
        with pytest.raises(ValueError, match="batch_size is .*expected 1 or more"):
            next(data.batches(**{"batch_size": 4} | settings))


def test_a_side_that_is_not_used_is_not_read(prepared, monkeypatch):
    opened, read = [], pairs._mapped
    monkeypatch.setattr(pairs, "_mapped", lambda path: opened.append(path) or read(path))
    data = FacePairs(prepared, *NAMES, device="cpu", sides=("compressed",))
    list(data.batches(4, raw=False))
    assert len(opened) > 1 and all("/c40/" in str(path) for path in opened[1:])  # the first one tells the size
    assert data.nbytes == 16 * 128 * 128 * 3 and FacePairs(prepared, *NAMES).nbytes == 2 * data.nbytes


def test_raw_quality_holds_its_crops_once(prepared):
    data = FacePairs(prepared, "FaceSwap", "raw", "train", device="cpu")
    assert data.nbytes == 16 * 128 * 128 * 3
    raw, compressed, _ = next(data.batches(4, flip=0.5))
    assert torch.equal(raw, compressed) and raw.data_ptr() == compressed.data_ptr()
    assert torch.equal(*data[3][:2])
    data.arrays()[0].zero_()
    assert data[3][0].any(), "what is held is not handed out"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_does_not_wait_for_the_gpu(prepared):
    batches = FacePairs(prepared, *NAMES, device="cuda").batches(4, flip=0.5)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_crops_prepared_anew_are_read_anew_and_a_file_cut_short_is_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    data = FacePairs(tmp_path / "out", *NAMES)
    before = data[0][1]
    (path,) = (tmp_path / "out/crops/original/c40").glob(f"{data.videos[0].split('/')[1]}.npy")
    time.sleep(0.01)
    np.save(path, 255 - np.load(path))
    assert torch.equal(data[0][1], 255 - before)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="prepare the folder again"):
        data[0]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
def test_no_file_stays_open(prepared):
    """FaceForensics++ has 2,880 files in one training set; a process may usually have 1,024 open."""
    pairs._map.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    assert len(list(FacePairs(prepared, *NAMES))) == 16
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_names_in_no_utf8_are_read(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "crops")
    table = (tmp_path / "crops/manifest.csv").read_bytes()
    name = read_manifest(prepared).query("split == 'train' and manipulation == 'FaceSwap' and quality == 'c40'")["path"].iloc[0]
    other = name.replace(".npy", os.fsdecode(b"\xe9.npy"))
    (tmp_path / "crops" / name).rename(tmp_path / "crops" / other)
    (tmp_path / "crops/manifest.csv").write_bytes(table.replace(name.encode(), os.fsencode(other)))
    for found, expected in zip(FacePairs(tmp_path / "crops", *NAMES).arrays(), FacePairs(prepared, *NAMES).arrays(), strict=True):
        assert torch.equal(found, expected)


def test_video_without_a_partner_is_left_out_and_listed(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    table = read_manifest(prepared)
    row = table.query("split == 'train' and quality == 'c40' and manipulation == 'original'").index[0]
    table.loc[row, ["status", "reason", "crops"]] = ["failed", "no c40 file", 0]
    table.to_csv(tmp_path / "out/manifest.csv", index=False)
    data = FacePairs(tmp_path / "out", *NAMES)
    assert len(data) == 14 and data.left_out == [("original", table.loc[row, "video"], "no c40 file")]


def test_unknown_names_are_told_what_there_is(prepared):
    for place, name, known in ((0, "Deepfake", "Deepfakes"), (1, "c30", "c23"), (2, "dev", "val")):
        with pytest.raises(ValueError, match=f"{name}.*{known}"):
            FacePairs(prepared, *NAMES[:place], name, *NAMES[place + 1 :])
    for sides in ("raw", ["compressed", "both"]):
        with pytest.raises(ValueError, match="sides is .*; expected a list of raw, compressed"):
            FacePairs(prepared, *NAMES, sides=sides)


def test_crops_of_an_interrupted_preparation_are_refused(prepared, tmp_path):
    """Other lengths than the manifest's would shift all crops behind them to other labels."""
    shutil.copytree(prepared, tmp_path / "crops")
    path = next((tmp_path / "crops/crops/FaceSwap/c40").iterdir())
    np.save(path, np.repeat(np.load(path), 2, axis=0))
    with pytest.raises(ValueError, match=f"{path.name} holds 4 crops, .*manifest.csv says 2: .* run addlib prepare again"):
        [FacePairs(tmp_path / "crops", "FaceSwap", "c40", split) for split in ("train", "val", "test")]
