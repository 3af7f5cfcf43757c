import pytest
import torch

from addlib.faceforensics import FacePairs
from addlib.faceforensics.resident import ResidentPairs
from addlib.training.loading import EpochLoader, load_pairs


@pytest.fixture(scope="module")
def pairs(prepared):
    return load_pairs(prepared, "FaceSwap", "c40", "train")


def test_what_does_not_fit_is_read_from_disk(prepared, monkeypatch):
    def full(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr("addlib.training.loading.ResidentPairs.__init__", full)
    assert isinstance(load_pairs(prepared, "FaceSwap", "c40", "train"), FacePairs)


def gathered(loader):
    return [torch.cat(parts) for parts in zip(*loader, strict=True)]


def test_pairs_are_resident(pairs):
    assert isinstance(pairs, ResidentPairs) and len(pairs) == 16


def test_disk_and_memory_give_the_same(pairs, prepared):
    options = {"seed": 3, "flip": 0.5}
    one = gathered(EpochLoader(pairs, 4, **options))
    two = gathered(EpochLoader(FacePairs(prepared, "FaceSwap", "c40", "train"), 4, **options))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_epochs_differ_and_return(pairs):
    loader = EpochLoader(pairs, 4, flip=0.5)
    first, again = gathered(loader)[1], gathered(loader)[1]
    loader.epoch = 1
    assert torch.equal(first, again) and not torch.equal(first, gathered(loader)[1])


def test_the_epoch_counts_when_the_first_batch_is_drawn(pairs):
    loader = EpochLoader(pairs, 4)
    waiting = iter(loader)
    loader.epoch = 1
    assert torch.equal(next(waiting)[1], next(iter(loader))[1])


def test_training_batches_are_complete(pairs):
    loader = EpochLoader(pairs, 5)
    assert len(loader) == 3 == len(list(loader))
    held = EpochLoader(pairs, 5, training=False)
    assert len(held) == 4 and [len(labels) for *_, labels in held] == [5, 5, 5, 1]
    assert gathered(held)[2].tolist() == pairs.labels.tolist()


@pytest.mark.parametrize("training", [True, False])
def test_devices_share_an_epoch(pairs, training):
    shares = [EpochLoader(pairs, 4, training=training, rank=rank, world=3) for rank in range(3)]
    seen = [gathered(share)[1].flatten(1) for share in shares]
    found = {row.numpy().tobytes() for rows in seen for row in rows}
    whole = gathered(EpochLoader(pairs, 1, training=training))[1].flatten(1)
    assert found <= {row.numpy().tobytes() for row in whole}
    assert len(found) == sum(map(len, seen)) == (12 if training else 16)
    if training:
        assert [len(list(share)) for share in shares] == [1, 1, 1] == [len(share) for share in shares]


def test_too_few_pairs(pairs):
    with pytest.raises(ValueError, match="16 training pairs make no batch of 9 on each of 2 devices"):
        EpochLoader(pairs, 9, world=2)
