"""Weights from and to files; public networks of torchvision and timm answer as themselves."""

import os
import urllib.error
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save, save_file

from addlib.detectors import create_detector, load_weights, read_detector, save_weights


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def plain(name):
    torch.manual_seed(4)
    network = timm.create_model("legacy_xception") if name == "xception" else torchvision.models.get_model(name)
    # Parameters of normalisation other than the 1 and 0 of the start, so that a swapped layer shows.
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand_like(tensor)) if key.endswith(("weight", "var")) else tensor.normal_(0, 0.1)
    return network.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "efficientnet_b0", "xception", "cadene"])
def test_public_networks_answer_as_themselves(name, tmp_path):
    kind = "xception" if name == "cadene" else name
    network, crops = plain(kind), torch.rand(2, 3, 64, 64) * 2 - 1
    state = network.state_dict()
    if name == "cadene":  # the classifier is last_linear, 1 × 1 kernels are matrices, batches were not counted yet
        state = {key.replace("fc.", "last_linear."): t for key, t in state.items() if "num_batches" not in key}
        state |= {key: tensor[:, :, 0, 0] for key, tensor in state.items() if "pointwise" in key}
    torch.save(state, tmp_path / "public.pth")
    detector = create_detector(kind, num_classes=1000, weights=tmp_path / "public.pth").eval()
    with torch.no_grad():
        torch.testing.assert_close(detector(crops).logits, network(crops))

    torch.manual_seed(6)
    fresh = create_detector(kind).head.weight
    torch.manual_seed(6)
    two = create_detector(kind, weights=tmp_path / "public.pth").eval()
    assert torch.equal(two.head.weight, fresh), "with another number of classes the file fills everything but the head"
    with torch.no_grad():
        torch.testing.assert_close(two(crops).embedding, detector(crops).embedding)


def test_saved_files_come_back(tmp_path):
    one, path = create_detector("f3net", num_classes=5, size=64), tmp_path / "new" / "w.safetensors"
    save_weights(one.to(memory_format=torch.channels_last), path, {"shift": 8})
    again, about = read_detector(path)
    assert same(one, again) and about == {"shift": 8} and not again.training
    with pytest.raises(ValueError, match=r'options {"size": 64}\) does not fit .*options {\'size\': 96}: .*fad.weight'):
        create_detector("f3net", num_classes=5, size=96, weights=path)
    with pytest.raises(ValueError, match="holds weights of f3net, expected weights of xception"):
        create_detector("xception", weights=path)
    with pytest.raises(ValueError, match="expected one of create_detector, to a .safetensors"):
        save_weights(one, "w.pt")


def test_torch_files_come_back_or_change_nothing(tmp_path):
    one, two = create_detector("resnet18_narrow"), create_detector("resnet18_narrow")
    state = one.state_dict()
    torch.save({key: tensor for key, tensor in state.items() if key != "head.bias"}, tmp_path / "w.pt")
    before = {key: tensor.clone() for key, tensor in two.state_dict().items()}
    with pytest.raises(ValueError, match=r'does not fit .*Missing key\(s\) in state_dict: "head.bias"'):
        load_weights(two, tmp_path / "w.pt")
    assert all(torch.equal(before[key], tensor) for key, tensor in two.state_dict().items())
    torch.save(state, tmp_path / "w.pt")
    assert same(one, create_detector("resnet18_narrow", weights=tmp_path / "w.pt"))
    save_file(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"does not fit resnet18 of 2 classes.*Unexpected key.*stages.0.2.conv1"):
        create_detector("resnet18", weights=tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not say which detector"):
        read_detector(tmp_path / "w.safetensors")
    whole = {"name": "resnet18", "num_classes": "2", "options": "{}"}
    for about in ({"name": "resnet18"}, whole | {"options": "x"}, whole | {"about": "[1]"}):
        save_file({"head.bias": torch.zeros(2)}, tmp_path / "w.safetensors", about)
        with pytest.raises(ValueError, match="says of itself what save_weights does not write"):
            read_detector(tmp_path / "w.safetensors")


class Trap:
    def __reduce__(self):
        return os.system, ("touch sprung",)


@pytest.mark.parametrize(
    ("file", "held", "message"),
    [
        ("trap.pt", {"head.weight": Trap()}, "more than tensors .* could run code"),
        ("page.pt", b"<!DOCTYPE html><html>Sign in</html>", "is damaged"),
        ("cut.safetensors", save({"head.weight": torch.zeros(99)})[:-100], "is damaged .* fetch it again"),
        ("w.pt", {"state_dict": {}, "epoch": 3}, r"holds a dict of \['state_dict', 'epoch'\], expected a model.state"),
        ("none.pt", None, "is no file; expected weights"),
    ],
)
def test_files_that_hold_no_weights(file, held, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(held, bytes):
        Path(file).write_bytes(held)
    elif held is not None:
        torch.save(held, file)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        create_detector("resnet18_narrow", weights=file)
    assert "weights_only" not in str(caught.value) and not Path("sprung").exists()


def test_imagenet_is_downloaded_once_with_its_hash(tmp_path, monkeypatch, capfd):
    network, asked = plain("efficientnet_b0"), []

    def download(url, path, prefix, progress):
        asked.append((url, prefix, progress))
        if "efficientnet" not in url:
            raise urllib.error.URLError("no network")
        torch.save(network.state_dict(), path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        detector = create_detector("efficientnet_b0", weights="imagenet")
        assert torch.equal(detector.features[0][0].weight, network.features[0][0].weight)
    url = "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth"
    assert asked == [(url, "7f5810bc", False)] and capfd.readouterr() == ("", "")
    for name, error, said in (
        ("resnet50", OSError, f"download.pytorch.org.*resnet50-0676ba61.* at {tmp_path}"),
        ("f3net", OSError, f"github.com.*xception.* at {tmp_path}"),
        ("resnet18_narrow", ValueError, "no ImageNet weights for resnet18_narrow; .*vggface2.pt"),
    ):
        with pytest.raises(error, match=said):
            create_detector(name, weights="imagenet")
