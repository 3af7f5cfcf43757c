"""What all detectors have in common."""

import copy
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from addlib import detectors
from addlib.detectors import DETECTORS, Detection, create_detector, normalisation, register_detector

# torchvision's 1000-class counts of the ResNets and of EfficientNet are 11,689,512, 21,797,672, 25,557,032 and 5,288,548,
# Xception has 22,855,952 (Chollet's table: 22.9 M), facenet-pytorch's VGGFace2 model with 8631 classes 27,910,327; here less
# the difference of the last layer.
PARAMETERS = {
    "resnet18": 11_177_538,
    "resnet34": 21_285_698,
    "resnet50": 23_512_130,
    "efficientnet_b0": 4_010_110,
    "xception": 20_811_050,
    "inception_resnet_v1": 23_483_650,
}
# Channels of the stages, and the width of the last linear layer's input.
WIDTHS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "resnet18_narrow": (24, 48, 96, 192),
    "resnet34_narrow": (24, 48, 96, 192),
    "resnet50_narrow": (48, 96, 192, 384),
    "efficientnet_b0": (24, 40, 112, 1280),
    "efficientnet_b0_narrow": (16, 24, 56, 640),
    "xception": (128, 256, 728, 2048),
    "inception_resnet_v1": (192, 256, 896, 1792),
    "f3net": (256, 512, 1456, 4096),
}
SIDES = {
    128: dict.fromkeys(DETECTORS, (32, 16, 8, 4))
    | {"xception": (31, 16, 8, 4), "f3net": (31, 16, 8, 4), "inception_resnet_v1": (28, 13, 6, 2)},
    96: dict.fromkeys(DETECTORS, (24, 12, 6, 3))
    | {"xception": (23, 12, 6, 3), "f3net": (23, 12, 6, 3), "inception_resnet_v1": (20, 9, 4, 1)},
}
ONE_OF_EACH = [name for name in DETECTORS if name not in ("resnet34", "resnet34_narrow", "resnet50", "efficientnet_b0")]


def make(name, size=128, **settings):
    torch.manual_seed(0)
    return create_detector(name, **settings, **({"size": size} if name == "f3net" else {}))


def settled(name, crops):
    """A detector in evaluation mode whose normalisation layers have seen the crops: its maps have ordinary values."""
    detector = make(name, crops.shape[-1])
    for module in detector.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        detector(crops)
    return detector.eval()


@pytest.fixture(scope="module")
def small():
    return torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def known(small):
    """A settled detector of each kind and its answer."""
    found = {}
    for name in ONE_OF_EACH:
        detector = settled(name, small)
        with torch.no_grad():
            found[name] = SimpleNamespace(detector=detector, answer=detector(small))
    return found


@pytest.mark.parametrize(
    ("name", "size"), [(name, 128) for name in DETECTORS] + [(name, 96) for name in DETECTORS if name in ONE_OF_EACH]
)
def test_contract(name, size):
    detector = make(name, size).eval()
    with torch.no_grad():
        found = detector(torch.rand(2, 3, size, size) * 2 - 1)
    assert [stage.shape[1] for stage in found.stages] == list(WIDTHS[name])
    assert [tuple(stage.shape[2:]) for stage in found.stages] == [(side, side) for side in SIDES[size][name]]
    assert all(stage.dtype == torch.float32 and bool(stage.isfinite().all()) for stage in found.stages)
    width = 512 if name == "inception_resnet_v1" else WIDTHS[name][-1]
    assert found.embedding.shape == (2, width) and found.logits.shape == (2, 2)
    assert isinstance(detector.head, torch.nn.Linear) and detector.head.in_features == width
    torch.testing.assert_close(found.logits, detector.head(found.embedding))
    if name != "inception_resnet_v1":
        torch.testing.assert_close(found.embedding, found.stages[-1].mean((2, 3)))
    assert (detector.name, detector.num_classes) == (name, 2)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_literature(name):
    assert sum(p.numel() for p in create_detector(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet18", 1.58), ("resnet34", 3.0), ("resnet50", 0.84), ("efficientnet_b0", 0.66)],
)
def test_narrow_is_small(name, millions):
    count = sum(p.numel() for p in create_detector(f"{name}_narrow").parameters())
    assert count == pytest.approx(1e6 * millions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "total"), [("resnet18_narrow", 1.0576462745666504), ("resnet34_narrow", 1.050034523010254)]
)
def test_a_narrow_network_starts_where_it_always_did(name, total):
    """Numbers in the book come from these initial weights; timm's blocks gave them."""
    torch.manual_seed(5)
    assert create_detector(name).stem[0].weight.sum().item() == total


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradient_reaches_every_parameter(name, small, known):
    # In evaluation mode: in training, a normalisation right behind it rightly cancels the effect of a bias.
    detector = copy.deepcopy(known[name].detector)
    torch.nn.functional.cross_entropy(detector(small).logits, torch.tensor([0, 1, 0, 0])).backward()
    dead = [
        key
        for key, p in detector.named_parameters()
        if p.grad is None or not bool(p.grad.isfinite().all() & p.grad.any())
    ]
    assert not dead


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradient_flows_from_every_stage_in_training(name, small):
    detector = make(name, 96)
    found = detector(small)
    sum(stage.square().mean() for stage in found.stages).backward()
    trunk = [p for key, p in detector.named_parameters() if not key.startswith(("head", "last_"))]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trunk)
    assert detector.head.weight.grad is None


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_copies_and_memory_formats_answer_alike(name, small, known):
    detector, answer = known[name].detector, known[name].answer
    again = pickle.loads(pickle.dumps(copy.deepcopy(detector)))
    assert (again.name, again.options) == (detector.name, detector.options)
    with torch.no_grad():
        torch.testing.assert_close(again(small), answer)
        last = again.to(memory_format=torch.channels_last)(small.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, answer, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_autocast_is_finite_and_begins_alike(name, small, known):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = known[name].detector(small)
    assert all(bool(tensor.isfinite().all()) for tensor in (*found.stages, found.embedding, found.logits))
    # With random parameters the rounding errors of bfloat16 grow from layer to layer: the first stage can tell.
    got, expected = found.stages[0].float(), known[name].answer.stages[0]
    assert (got - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_seed_decides(name):
    one, two = make(name).state_dict(), make(name).state_dict()
    assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))


def test_crops_need_not_be_square():
    found = create_detector("resnet18_narrow").eval()(torch.zeros(1, 3, 64, 96))
    assert found.stages[0].shape[2:] == (16, 24)


@pytest.mark.parametrize(
    ("name", "crops", "message"),
    [
        ("resnet18_narrow", torch.zeros(3, 64, 64), r"received a tensor of shape \(3, 64, 64\)"),
        ("efficientnet_b0_narrow", torch.zeros(1, 1, 64, 64), r"\(1, 1, 64, 64\), expected a batch of RGB crops"),
        ("xception", torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "torch.uint8, expected floats"),
        ("xception", torch.zeros(1, 3, 6, 64), "6 × 64, expected at least 7 × 7"),
        ("inception_resnet_v1", torch.zeros(1, 3, 74, 128), "74 × 128, expected at least 75 × 75"),
        ("f3net", torch.zeros(1, 3, 96, 96), "96 × 96, expected 128 × 128"),
    ],
)
def test_wrong_inputs(name, crops, message):
    with pytest.raises(ValueError, match=message):
        create_detector(name)(crops)


@pytest.mark.parametrize(("name", "smallest"), [("xception", 7), ("inception_resnet_v1", 75)])
def test_smallest_crops(name, smallest):
    found = create_detector(name).eval()(torch.zeros(1, 3, smallest, smallest))
    assert found.stages[-1].shape[2:] == (1, 1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="resnet18_narrow"):
        create_detector("resnet19")
    with pytest.raises(ValueError, match="num_classes is 0"):
        create_detector("resnet18_narrow", num_classes=0)
    with pytest.raises(ValueError, match=r"options of resnet18_narrow are \['size'\], expected any of \[\]"):
        create_detector("resnet18_narrow", size=128)
    with pytest.raises(ValueError, match="size is 16, expected at least 32"):
        create_detector("f3net", size=16)


def test_normalisation():
    assert normalisation("resnet50") == (0.5, 0.5)
    mean, std = normalisation("inception_resnet_v1")
    grey = torch.arange(256.0)
    torch.testing.assert_close((grey / 255 - mean) / std, (grey - 127.5) / 128)
    with pytest.raises(ValueError, match="unknown detector 'vgg'"):
        normalisation("vgg")


def test_import_and_narrow_networks_are_light():
    code = (
        "import sys, addlib.detectors as d; d.create_detector('resnet50_narrow'); "
        "print({'timm', 'torchvision', 'pandas'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()" and not found.stderr


def test_everything_named_is_there():
    assert all(hasattr(detectors, name) for name in detectors.__all__)


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
            embedding = stage.mean((2, 3))
            return Detection((stage,), embedding, self.head(embedding))

    detector = create_detector("tiny", width=6)
    assert normalisation("tiny") == (0.4, 0.2) and detector(torch.zeros(1, 3, 8, 8)).stages[0].shape[1] == 6
    detectors.save_weights(detector, tmp_path / "w.safetensors", {"shift": 8})
    again, about = detectors.read_detector(tmp_path / "w.safetensors")
    assert torch.equal(again.conv.weight, detector.conv.weight) and about == {"shift": 8} and not again.training
    with pytest.raises(ValueError, match="there is a detector 'xception' already"):
        register_detector("xception")(Tiny)
