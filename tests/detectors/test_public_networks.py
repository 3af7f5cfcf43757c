"""Wrapped networks answer as the plain ones of torchvision and timm with the same weights."""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from addlib.detectors import create_detector


def plain(name):
    torch.manual_seed(4)
    network = (
        timm.create_model("legacy_xception") if name == "xception" else torchvision.models.get_model(name, weights=None)
    )
    # Parameters of normalisation other than the 1 and 0 of the start, so that a swapped layer shows.
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand_like(tensor)) if key.endswith(("weight", "var")) else tensor.normal_(0, 0.1)
    return network.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "efficientnet_b0", "xception"])
def test_same_answer_from_a_public_file(name, tmp_path):
    network, crops = plain(name), torch.rand(2, 3, 64, 64) * 2 - 1
    torch.save(network.state_dict(), tmp_path / "public.pth")
    detector = create_detector(name, num_classes=1000, weights=tmp_path / "public.pth").eval()
    with torch.no_grad():
        torch.testing.assert_close(detector(crops).logits, network(crops))
    assert sum(p.numel() for p in detector.parameters()) == sum(p.numel() for p in network.parameters())

    # With another number of classes the same file fills everything but the head.
    torch.manual_seed(6)
    fresh = create_detector(name).head.weight
    torch.manual_seed(6)
    two = create_detector(name, weights=tmp_path / "public.pth").eval()
    assert torch.equal(two.head.weight, fresh)
    with torch.no_grad():
        torch.testing.assert_close(two(crops).embedding, detector(crops).embedding)


def test_efficientnet_drops_out_in_training_only_and_not_in_the_embedding():
    torch.manual_seed(0)
    detector = create_detector("efficientnet_b0")
    with torch.no_grad():
        found = detector(torch.rand(4, 3, 64, 64))
        assert not torch.allclose(found.logits, detector.head(found.embedding))
        torch.testing.assert_close(found.embedding, found.stages[-1].mean((2, 3)))


def test_old_xception_files(tmp_path):
    # Cadene's: the classifier is last_linear, 1 × 1 kernels are matrices, batches were not counted yet.
    network, crops = plain("xception"), torch.rand(1, 3, 64, 64)
    old = {}
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            old[key.replace("fc.", "last_linear.")] = tensor[:, :, 0, 0] if "pointwise" in key else tensor
    torch.save(old, tmp_path / "xception-b5690688.pth")
    detector = create_detector("xception", 1000, weights=tmp_path / "xception-b5690688.pth").eval()
    with torch.no_grad():
        torch.testing.assert_close(detector(crops).logits, network(crops))


def test_public_safetensors(tmp_path):
    network = plain("resnet18")
    save_file(network.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    detector = create_detector("resnet18", weights=tmp_path / "model.safetensors")
    assert torch.equal(detector.stages[3][1].conv2.weight, network.layer4[1].conv2.weight)


def test_public_file_of_another_depth(tmp_path):
    torch.save(plain("resnet34").state_dict(), tmp_path / "public.pth")
    with pytest.raises(ValueError, match=r"does not fit resnet18 .*Unexpected key.*stages.0.2.conv1.weight"):
        create_detector("resnet18", weights=tmp_path / "public.pth")
