import os
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from addlib.detectors import create_detector, load_weights, save_weights


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_torch_files_come_back(tmp_path):
    one = create_detector("resnet18_narrow")
    torch.save(one.state_dict(), tmp_path / "w.pt")
    assert same(one, create_detector("resnet18_narrow", weights=tmp_path / "w.pt"))
    with pytest.raises(ValueError, match=r"does not fit resnet18 with num_classes 2.*size mismatch for stem.0.weight"):
        create_detector("resnet18", weights=tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"with num_classes 3.*head.weight: .*\[2, 192\].*\[3, 192\]"):
        create_detector("resnet18_narrow", num_classes=3, weights=tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError, match="is no file; expected a file of weights"):
        create_detector("resnet18", weights=tmp_path / "missing.pt")


def test_saved_files_come_back(tmp_path):
    one = create_detector("resnet18_narrow", num_classes=5).to(memory_format=torch.channels_last)
    save_weights(one, tmp_path / "new" / "w.safetensors")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]
    with safe_open(tmp_path / "new" / "w.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "name": "resnet18_narrow", "num_classes": "5", "options": "{}"}
    assert same(one, create_detector("resnet18_narrow", num_classes=5, weights=str(tmp_path / "new" / "w.safetensors")))


def test_saved_files_of_another_detector_or_size(tmp_path):
    save_weights(create_detector("resnet18_narrow"), tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match="does not fit resnet18: it holds weights of resnet18_narrow; give"):
        create_detector("resnet18", weights=tmp_path / "narrow.safetensors")
    save_weights(create_detector("f3net", size=64), tmp_path / "f3net.safetensors")
    message = r"options {'size': 96}.*the file says: .*\"size\": 64.*fad.weight: "
    with pytest.raises(ValueError, match=message):
        create_detector("f3net", size=96, weights=tmp_path / "f3net.safetensors")
    create_detector("f3net", size=64, weights=tmp_path / "f3net.safetensors")


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    one, two = create_detector("resnet18_narrow"), create_detector("resnet18_narrow")
    state = one.state_dict()
    del state["head.bias"]
    torch.save(state, tmp_path / "w.pt")
    before = {key: tensor.clone() for key, tensor in two.state_dict().items()}
    with pytest.raises(ValueError, match=r'Missing key\(s\) in state_dict: "head.bias"'):
        load_weights(two, tmp_path / "w.pt")
    assert all(torch.equal(before[key], tensor) for key, tensor in two.state_dict().items())


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    detector = create_detector("resnet18_narrow")
    save_weights(detector, tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(create_detector("resnet18_narrow"), tmp_path / "w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_save_refuses():
    with pytest.raises(ValueError, match=r"expected one that ends in \.safetensors"):
        save_weights(create_detector("resnet18_narrow"), "w.pt")
    with pytest.raises(ValueError, match="detector is a Linear"):
        save_weights(torch.nn.Linear(1, 1), "w.safetensors")


class Trap:
    def __reduce__(self):
        return os.system, ("touch sprung",)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("page.pt", b"<!DOCTYPE html><html>Sign in</html>", "not a whole file of tensors alone"),
        ("page.safetensors", b"\n<html>Sign in</html>", "not a whole file of tensors alone"),
        ("empty.pt", b"", "not a whole file of tensors alone"),
        ("noise.bin", bytes(range(256)), "not a whole file of tensors alone"),
        ("w.ckpt", b"", r"ends in '.ckpt', expected .safetensors, or .pt, .pth, .bin"),
    ],
)
def test_files_that_hold_no_weights(file, content, message, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        create_detector("resnet18_narrow", weights=tmp_path / file)
    assert file in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_cut_files(suffix, tmp_path):
    detector, path = create_detector("resnet18_narrow"), tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(detector.state_dict(), path)
    else:
        save_weights(detector, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a whole file of tensors alone.* Fetch it again"):
        create_detector("resnet18_narrow", weights=path)


def test_no_code_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"head.weight": Trap()}, "trap.pt")
    with pytest.raises(ValueError, match="not read, since reading more than tensors could run code"):
        create_detector("resnet18_narrow", weights="trap.pt")
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"state_dict": {}, "epoch": 3}, r"holds a dict of \['state_dict', 'epoch'\], expected names and tensors"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
        ({}, r"holds a dict of \[\], expected"),
    ],
)
def test_things_that_are_no_state_dict(held, message, tmp_path):
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message):
        create_detector("resnet18_narrow", weights=tmp_path / "w.pt")


def test_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        create_detector("resnet18_narrow", weights=tmp_path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch.hub, and no network."""

    def refuse(*args, **options):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "hub" / "checkpoints"


def test_imagenet_from_the_cache(cache, capfd):
    import torchvision

    network = torchvision.models.resnet18(weights=None)
    cache.mkdir(parents=True)
    torch.save(network.state_dict(), cache / "resnet18-f37072fd.pth")
    detector = create_detector("resnet18", weights="imagenet")
    assert torch.equal(detector.stages[0][0].conv1.weight, network.layer1[0].conv1.weight)
    assert detector.head.out_features == 2
    assert capfd.readouterr() == ("", "")


def test_imagenet_is_downloaded_once_with_its_hash(cache, monkeypatch, capfd):
    asked = []

    def download(url, path, prefix, progress):
        asked.append((url, prefix, progress))
        state = create_detector("efficientnet_b0", 1000).state_dict()
        torch.save({key.replace("head.", "classifier.1."): tensor for key, tensor in state.items()}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        create_detector("efficientnet_b0", weights="imagenet")
    url = "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth"
    assert asked == [(url, "7f5810bc", False)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "host", "file"),
    [
        ("resnet50", "download.pytorch.org", "resnet50-0676ba61.pth"),
        ("xception", "github.com", "xception-43020ad28.pth"),
        ("f3net", "github.com", "xception-43020ad28.pth"),
    ],
)
def test_imagenet_without_a_network(name, host, file, cache):
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        create_detector(name, weights="imagenet")
    assert host in str(caught.value) and str(cache / file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("resnet18_narrow", "no ImageNet weights"), ("inception_resnet_v1", "VGGFace2")]
)
def test_detectors_without_imagenet_weights(name, message, cache):
    with pytest.raises(ValueError, match=message):
        create_detector(name, weights="imagenet")
    assert not cache.exists()
