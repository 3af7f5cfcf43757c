import pytest
import torch

from addlib.detectors import create_detector

PARAMETERS = {"resnet18": 11_177_538, "resnet34": 21_285_698, "resnet50": 23_512_130}


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048), ("resnet18_narrow", 192)]
)
def test_contract(name, width):
    detector = create_detector(name).eval()
    found = detector(torch.zeros(2, 3, 128, 128))
    assert [tuple(stage.shape[2:]) for stage in found.stages] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert found.embedding.shape == (2, width) and found.logits.shape == (2, 2)
    torch.testing.assert_close(found.embedding, found.stages[-1].mean((2, 3)))
    torch.testing.assert_close(found.logits, detector.head(found.embedding))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_literature(name):
    # torchvision's 1000-class counts (11,689,512, 21,797,672, 25,557,032) less the difference of the last layer.
    assert sum(p.numel() for p in create_detector(name).parameters()) == PARAMETERS[name]


def test_narrow_is_small():
    assert 1.4e6 < sum(p.numel() for p in create_detector("resnet18_narrow").parameters()) < 1.8e6


def test_weights_come_back(tmp_path):
    one = create_detector("resnet18_narrow")
    torch.save(one.state_dict(), tmp_path / "w.pt")
    two = create_detector("resnet18_narrow", weights=tmp_path / "w.pt")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="does not fit resnet18"):
        create_detector("resnet18", weights=tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError):
        create_detector("resnet18", weights=tmp_path / "missing.pt")


def test_unknown_name():
    with pytest.raises(ValueError, match="resnet18_narrow"):
        create_detector("resnet19")
