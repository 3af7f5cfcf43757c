import os
import shutil

import pytest
import torch

from addlib.faceforensics import FacePairs, ResidentPairs, batches, pairs
from addlib.faceforensics.drawing import Draw, finish

NAMES = ("FaceSwap", "c40", "train")
NORMAL = (0.5, 0.5)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "settings", [{"flip": 0.5, "normalise": NORMAL}, {"shuffle": False, "drop_last": True}, {"seed": 3, "epoch": 2}]
)
def test_disk_and_memory_give_the_same_batches(prepared, settings, workers):
    one = list(batches(FacePairs(prepared, *NAMES), 5, workers=workers, **settings))
    other = list(ResidentPairs(prepared, *NAMES).batches(5, **settings))
    assert len(one) == len(other) == (3 if settings.get("drop_last") else 4)
    for left, right in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
        assert left[0].dtype == (torch.float32 if "normalise" in settings else torch.uint8)


def test_batches_are_the_crops(prepared):
    data = FacePairs(prepared, *NAMES)
    draw = Draw.of(len(data), seed=1, flip=0.5)
    got = list(batches(data, 16, seed=1, flip=0.5, normalise=((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))))
    assert draw.mirrored.any() and not draw.mirrored.all() and len(got) == 1
    for place, index in enumerate(draw.order.tolist()):
        for side in (0, 1):
            crop = data[index][side].flip(-1) if draw.mirrored[index] else data[index][side]
            scaled = (crop.double() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
                [0.1, 0.2, 0.3]
            ).view(3, 1, 1)
            torch.testing.assert_close(got[0][side][place].double(), scaled, atol=1e-5, rtol=0)
        assert got[0][2][place] == data[index][2]


def test_every_pair_once_in_an_order_of_its_own(prepared):
    resident = ResidentPairs(prepared, *NAMES)
    orders = [Draw.of(len(resident), seed=seed, epoch=epoch).order for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order.tolist()) == list(range(16)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    given = torch.Generator().manual_seed(9)
    assert torch.equal(Draw.of(16, generator=given).order, torch.randperm(16, generator=given.manual_seed(9)))
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(resident.batches(0))


def test_resident_set_describes_itself(prepared):
    resident, data = ResidentPairs(prepared, *NAMES), FacePairs(prepared, *NAMES)
    assert resident.nbytes == 2 * 16 * 128 * 128 * 3 and len(resident) == 16
    assert all(torch.equal(a, b) for a, b in zip(resident[7][:2], data[7][:2], strict=True)) and resident[7][2] == 0
    assert (resident.videos == data.videos).all()


def test_mirrored_half_stays_in_place():
    crops = torch.arange(24, dtype=torch.uint8).view(2, 3, 1, 4)
    out = finish(crops, torch.tensor([True, False]))
    assert torch.equal(out[0], crops[0].flip(-1)) and torch.equal(out[1], crops[1])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
def test_no_file_stays_open(prepared):
    """FaceForensics++ has 2,880 files in one training set; a process may usually have 1,024 open."""
    data = FacePairs(prepared, *NAMES)
    pairs._mapped.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    for index in range(len(data)):
        data[index]
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_file_cut_short_is_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    data = FacePairs(tmp_path / "out", *NAMES)
    path = tmp_path / "out" / data._files[0][1]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="addlib verify"):
        data[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same(prepared):
    one = list(ResidentPairs(prepared, *NAMES, device="cuda").batches(5, flip=0.5))
    other = list(ResidentPairs(prepared, *NAMES).batches(5, flip=0.5))
    for left, right in zip(one, other, strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(left, right, strict=True))
