"""What all detectors have in common."""

import copy
import pickle

import pytest
import torch

from addlib import detectors
from addlib.detectors import DETECTORS, Detection, create_detector, normalisation, register_detector
from addlib.detectors.base import answer_of

# Channels of the stages, their sides for crops of 128, parameters, and the sum of these at the start with seed 5, on which the
# book's numbers depend. Published counts less the last layer; F3-Net: two Xceptions, filters, MixBlocks.
SIDES = (32, 16, 8, 4)
KNOWN = {
    "resnet18": ((64, 128, 256, 512), SIDES, 11_177_538, 4737.433678),
    "resnet34": ((64, 128, 256, 512), SIDES, 21_285_698, 8525.126785),
    "resnet50": ((256, 512, 1024, 2048), SIDES, 23_512_130, 26535.880624),
    "resnet18_narrow": ((24, 48, 96, 192), SIDES, 1_576_538, 1893.462687),
    "resnet34_narrow": ((24, 48, 96, 192), SIDES, 2_999_738, 3205.698604),
    "resnet50_narrow": ((48, 96, 192, 384), SIDES, 836_750, 4934.232326),
    "efficientnet_b0": ((24, 40, 112, 1280), SIDES, 4_010_110, 20999.594953),
    "efficientnet_b0_narrow": ((16, 24, 56, 640), SIDES, 658_402, 6297.951590),
    "xception": ((128, 256, 728, 2048), (31, 16, 8, 4), 20_811_050, 27250.347792),
    "inception_resnet_v1": ((192, 256, 896, 1792), (28, 13, 6, 2), 23_483_650, 14985.303902),
    "f3net": ((256, 512, 1456, 4096), (31, 16, 8, 4), 45_233_648, 54715.290325),
}
ONE_OF_EACH = "resnet18_narrow resnet50_narrow efficientnet_b0_narrow xception inception_resnet_v1 f3net".split()


@pytest.mark.parametrize("name", DETECTORS)
def test_each_starts_and_answers_as_it_should(name):
    torch.manual_seed(5)
    detector = create_detector(name)
    widths, sides, count, total = KNOWN[name]
    assert sum(p.numel() for p in detector.parameters()) == count
    assert sum(p.double().sum().item() for p in detector.parameters()) == pytest.approx(total, abs=1e-4)
    with torch.no_grad():
        found = detector.eval()(torch.rand(2, 3, 128, 128))
    assert [tuple(stage.shape) for stage in found.stages] == [(2, w, s, s) for w, s in zip(widths, sides, strict=True)]
    inception = name == "inception_resnet_v1"
    assert detector.head.in_features == found.embedding.shape[1] == (512 if inception else widths[-1])
    torch.testing.assert_close(found.logits, detector.head(found.embedding))
    if not inception:
        torch.testing.assert_close(found.embedding, found.stages[-1].mean((2, 3)))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_training_copies_memory_formats_and_autocast(name):
    torch.manual_seed(0)
    detector = create_detector(name, **({"size": 96} if name == "f3net" else {}))
    crops = torch.rand(4, 3, 96, 96) * 2 - 1
    for module in detector.modules():  # normalisation by these crops, so that maps have ordinary values below
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    found = detector(crops)
    assert torch.allclose(found.logits, detector.head(found.embedding), atol=1e-6) != hasattr(detector, "dropout")
    if name != "inception_resnet_v1":
        torch.testing.assert_close(found.embedding, found.stages[-1].mean((2, 3)))
    sum(stage.square().mean() for stage in found.stages).backward()
    trunk = [p.grad for key, p in detector.named_parameters() if not key.startswith(("head", "last_"))]
    assert all(g is not None and g.isfinite().all() for g in trunk) and detector.head.weight.grad is None

    # In training, a normalisation right behind it rightly cancels the effect of a bias.
    torch.nn.functional.cross_entropy(detector.eval()(crops).logits, torch.tensor([0, 1, 0, 0])).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in detector.parameters())

    again = pickle.loads(pickle.dumps(copy.deepcopy(detector)))
    with torch.no_grad():
        answer = detector(crops)
        torch.testing.assert_close(again(crops), answer)
        last = again.to(memory_format=torch.channels_last)(crops.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, answer, rtol=1e-3, atol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            half = detector(crops)
    assert all(tensor.isfinite().all() for tensor in (*half.stages, half.embedding, half.logits))
    # With random parameters the rounding errors of bfloat16 grow from layer to layer: the first stage can tell.
    assert (half.stages[0].float() - answer.stages[0]).norm() < 0.05 * answer.stages[0].norm()


@pytest.mark.parametrize(
    ("name", "x", "message"),
    [
        ("resnet18_narrow", torch.zeros(1, 1, 64, 64), r"\(1, 1, 64, 64\), expected normalised floats"),
        ("resnet18_narrow", torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "torch.uint8"),
        ("xception", torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "torch.uint8"),
        ("xception", torch.zeros(1, 3, 6, 64), "at least 7"),
        ("inception_resnet_v1", torch.zeros(1, 3, 74, 128), "at least 75"),
        ("f3net", torch.zeros(1, 3, 96, 96), r"\(96, 96\), expected sides of 128"),
    ],
)
def test_wrong_inputs(name, x, message):
    detector = create_detector(name).eval()
    with pytest.raises(ValueError, match=message):
        detector(x)
    if detector.smallest > 1 and name != "f3net":
        assert detector(torch.zeros(1, 3, detector.smallest, 96)).stages[-1].shape[2] == 1


def test_wrong_arguments():
    for settings in ({"name": "resnet19"}, {"num_classes": 0}, {"size": 128}):
        with pytest.raises(ValueError, match=r"unknown detector 'resnet19'; there are|expected 1 or more, any of \[\]"):
            create_detector(**{"name": "resnet18_narrow"} | settings)


def test_a_detector_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(detectors, "DETECTORS", dict(DETECTORS))

    @register_detector("tiny")
    class Tiny(torch.nn.Module):
        normalisation = (0.4, 0.2)

        def __init__(self, num_classes, width=4):
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(3, width, 3), torch.nn.Linear(width, num_classes)

        def forward(self, x):
            stage = self.conv(x).relu()
            return Detection((stage,), stage.mean((2, 3)), self.head(stage.mean((2, 3))))

    detector = create_detector("tiny", width=6)
    assert (normalisation("tiny"), normalisation("xception")) == ((0.4, 0.2), (0.5, 0.5))
    assert detector(torch.zeros(1, 3, 8, 8)).stages[0].shape[1] == 6
    detectors.save_weights(detector, tmp_path / "w.safetensors")
    assert torch.equal(detectors.read_detector(tmp_path / "w.safetensors")[0].conv.weight, detector.conv.weight)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"does not fit tiny .*Missing key"):
        create_detector("tiny", weights=tmp_path / "other.pt")
    with pytest.raises(ValueError, match="there is a detector 'resnet18' already"):
        register_detector("resnet18")(Tiny)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda crops, head: head(crops.mean((2, 3))), "answers to two crops is a Tensor.* expected a Detection"),
        (lambda crops, head: Detection((crops,), crops, head(crops.mean((2, 3)))), r"embedding \(2, 3, 8, 8\); expected \(2, 3\)"),
        (lambda crops, head: Detection((crops[0],), crops.mean((2, 3)), crops[:, :2, 0, 0]), r"stage \(3, 8, 8\); .*\(2, C, H, W\)"),
        (lambda crops, head: Detection((crops,), crops.mean((2, 3)), crops.mean((1, 2, 3))), r"logits \(2,\); expected \(2, 2\)"),
    ],
)
def test_what_a_detector_of_ones_own_answers_is_checked(answer, words):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, crops):
            return answer(crops, self.head)

    with pytest.raises(ValueError, match=f"what Own {words}" if words.startswith("answers") else f"what Own answers.* {words}"):
        answer_of(Own(), 8)
