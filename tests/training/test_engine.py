"""Parts of the engine and of what it runs on, without a training."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from addlib.detectors import DETECTORS, Detection, create_detector
from addlib.faceforensics import FacePairs
from addlib.training import RECIPES, engine, hardware
from addlib.training.engine import EpochLoader, TrainingTask, trainer_options


def test_teacher_and_student_see_the_same_window_somewhere():
    places, numbers = [], torch.arange(128 * 128).remainder(251).to(torch.uint8)
    crops = numbers.view(1, 1, 128, 128).expand(2, 3, 128, 128)

    class Looking(torch.nn.Module):
        name, head = "resnet18_narrow", torch.nn.Linear(1, 2)

        def forward(self, x):
            places.append(x[0, 0].detach())
            embedding = x.mean((1, 2, 3))[:, None]
            return Detection((x,), embedding, self.head(embedding))

    task = TrainingTask(Looking(), RECIPES["mini"], teacher=Looking(), distiller=lambda *_: {})
    corners = set()
    for task.seed in range(60):
        task.training_step((crops, crops, torch.tensor([0, 1])), 0)
        assert places[-1].shape == (120, 120) and torch.equal(places[-1], places[-2])
        corners.add(places[-1][0, 0].item())
    assert len(corners) > 30, "81 places are possible"


@pytest.mark.parametrize(
    ("odds", "labels", "wanted"),
    [([18, 20, 25, 30], [0, 0, 1, 1], 1), ([25, 20, 18, 30], [0, 0, 1, 1], 0.5), ([1, 2], [1, 1], math.nan)],
)
def test_validation_auc_of_a_sure_network_and_of_one_class(odds, labels, wanted):
    """In float32 the probabilities of odds from 17 on are all 1."""
    task, logged = TrainingTask(torch.nn.Identity(), RECIPES["mini"]), {}
    task._trainer = SimpleNamespace(world_size=1)
    task.log = lambda name, value, **_: logged.update({name: float(value)})
    task._answers = [(torch.tensor([2.0]), torch.tensor(odds).float(), torch.tensor(labels))]
    task.on_validation_epoch_end()
    assert logged["val_auc"] == pytest.approx(wanted, nan_ok=True) and logged["val_loss"] == 2 / len(odds)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_frozen_teacher_answers_as_before_with_its_batchnorms_in_its_convolutions(name):
    teacher = create_detector(name, **{"size": 96} if name == "f3net" else {}).eval()
    norms = [module for module in teacher.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.running_mean.normal_(std=0.1)
        module.running_var.uniform_(0.5, 2)
    crops = torch.randn(2, 3, 96, 96)
    frozen = engine.frozen_copy(teacher, "32-true")
    with torch.no_grad():
        for found, wanted in zip(flat(frozen(crops)), flat(teacher(crops)), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    left = sum(isinstance(module, torch.nn.BatchNorm2d) for module in frozen.modules())
    assert left == (len(norms) if name == "f3net" else 0), "no trace can be made of F3-Net"


def flat(answer):
    return [*answer.stages, answer.embedding, answer.logits]


def test_several_devices(monkeypatch):
    monkeypatch.setattr(engine, "from_notebook", lambda: False)
    both, alone = (hardware.Hardware.choose("cpu", count, "32-true") for count in ("2", "auto"))
    assert (both.processes, alone.processes) == (2, 1)
    for wrong in ([1], 0, "1,2"):
        with pytest.raises(ValueError, match="expected a number of devices or .*CUDA_VISIBLE_DEVICES"):
            hardware.Hardware.choose("cpu", wrong)
    # Only a frozen body leaves parameters without a gradient, and looking for them costs.
    found = [trainer_options(each, freezes)["strategy"] for each in (alone, both) for freezes in (False, True)]
    assert found == ["auto", "auto", "ddp", "ddp_find_unused_parameters_true"]


def test_crops_are_held_where_there_is_room(prepared, monkeypatch):
    def place(device="cpu"):
        pairs = FacePairs(prepared, "FaceSwap", "c40", "train")
        hardware.hold(pairs, device)
        return pairs.device and pairs.device.type

    assert (place(), place("meta")) == ("cpu", "meta")
    for error in (MemoryError, RuntimeError):
        with monkeypatch.context() as patch:
            patch.setattr(FacePairs, "_whole", Mock(side_effect=error("can't allocate memory")))
            assert place() is place("meta") is None, "read from disk"
    pairs = FacePairs(prepared, "FaceSwap", "c40", "train", device="cpu")
    monkeypatch.setattr(hardware, "free_memory", lambda: 100)
    assert place() is None
    hardware.hold(pairs, "cpu")
    assert pairs.device is None and not pairs._held, "held before, and without room now"


def test_epochs_differ_and_return(prepared):
    pairs = FacePairs(prepared, "FaceSwap", "c40", "train", device="cpu")
    loader, held_out = EpochLoader(pairs, 4, flip=0.5), EpochLoader(pairs, 5, training=False)
    first, again = (torch.cat([batch[1] for batch in loader]) for _ in range(2))
    waiting = iter(loader)
    loader.epoch = 1  # counts when the first batch is drawn
    assert torch.equal(first, again) and not torch.equal(first, torch.cat([batch[1] for batch in waiting]))
    assert len(loader) == len(held_out) == 4 and [len(labels) for *_, labels in held_out] == [5, 5, 5, 1]
