"""Parameters of detectors from files and to files, without ever running code that a file brings along."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import torch
from torch import Tensor, nn

from addlib.files import atomic_write


def load_weights(detector: nn.Module, path) -> None:
    """Read parameters into a detector of ``create_detector``; it is left as it was if they do not fit.

    Args:
        detector: takes its own state dict, as from :func:`save_weights`, which must fit as a whole; or the public weights
            of its architecture in their own naming (ResNet and EfficientNet: torchvision; Xception and F3-Net: timm's or
            Cadene's Xception; Inception-ResNet-v1: facenet-pytorch). The head then **stays at its random start** unless
            the file's has as many classes; that of facenet-pytorch is never used.
        path: ``.safetensors``, or ``.pt``, ``.pth``, ``.bin`` of ``torch.save``, read without running any code in it.

    Raises:
        FileNotFoundError: no such file. ValueError: a damaged file, no state dict, or one of another architecture.
    """
    state, about = read_weights(path)
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    # Files from before PyTorch 0.4.1 do not count batches, and nothing here uses the count.
    fresh = ("num_batches_tracked",)
    start = {key: tensor for key, tensor in before.items() if key.endswith(fresh)}
    public = None if "head.weight" in state or not hasattr(detector, "translate") else detector.translate(state)
    if public is not None:
        kept = getattr(public.get("head.weight"), "shape", None) == detector.head.weight.shape
        state = {key: tensor for key, tensor in public.items() if kept or not key.startswith("head.")}
        start |= {key: tensor for key, tensor in before.items() if key.startswith((*detector.fresh, "head."))}
    try:
        if about.get("name", detector.name) != detector.name:
            raise RuntimeError(": another detector")
        detector.load_state_dict(start | state)
    except RuntimeError as error:
        detector.load_state_dict(before)
        said = textwrap.shorten(str(error).partition(":")[2], 400, placeholder=" …")
        wanted = {"name": detector.name, "num_classes": detector.num_classes, "options": detector.options}
        raise ValueError(f"{path} {about or ''} does not fit {wanted} or its public weights: {said}") from None


def save_weights(detector: nn.Module, path, about: dict | None = None) -> None:
    """Write the parameters of a detector of ``create_detector`` as safetensors; the file appears when it is complete.

    Args:
        detector: its name, number of classes and options are written too, for :func:`read_detector`.
        path: ends in ``.safetensors``; its folder is made.
        about: what JSON holds, by name, such as what it was trained on.

    Raises:
        ValueError: another suffix or module. OSError: the file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors" or not hasattr(detector, "name"):
        kind = type(detector).__name__
        raise ValueError(
            f"{kind} to {path}, expected a detector of create_detector and a path that ends in .safetensors"
        )
    # safetensors wants plain memory: no channels-last strides, nothing on another device, nothing shared.
    plain = {"memory_format": torch.contiguous_format}
    state = {key: t.detach().cpu().clone(**plain) for key, t in detector.state_dict().items()}
    settings = {"num_classes": str(detector.num_classes), "options": json.dumps(detector.options)}
    more = {"about": json.dumps(about)} if about else {}
    data = save(state, {"format": "pt", "name": detector.name, **settings, **more})
    atomic_write(path, lambda file: file.write(data))


def imagenet_file(name: str) -> Path:
    """Path of the public ImageNet weights for a detector, in torch.hub's cache; downloaded there if they are missing.

    torchvision's IMAGENET1K_V1, those of the paper's time, for the ResNets and EfficientNet; timm's for Xception and F3-Net.
    Raises ValueError if there are none for the detector, OSError if the file is missing and cannot be fetched.
    """
    prefix = None
    if name in ("resnet18", "resnet34", "resnet50", "efficientnet_b0"):
        from torchvision.models import get_model_weights

        url = get_model_weights(name)["IMAGENET1K_V1"].url
        prefix = url.rpartition("-")[2].partition(".")[0]  # of the SHA-256, by torchvision's rule
    elif name in ("xception", "f3net"):
        from timm.models import get_pretrained_cfg

        url = get_pretrained_cfg("legacy_xception").url
    else:
        more = " (VGGFace2: 20180402-114759-vggface2.pt of facenet-pytorch's releases)" if "inception" in name else ""
        raise ValueError(f"there are no ImageNet weights for {name}; give the path of your own{more}")
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
        except Exception as error:  # no network, a proxy's page, a broken transfer: each raises its own kind
            raise OSError(f"weights for {name} could not be downloaded ({error}); fetch {url} to {path}") from error
    return path


def read_weights(path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict of a file, and what :func:`save_weights` wrote beside it. Raises as :func:`load_weights`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file; expected weights, such as weights.safetensors of a training's folder"
        )
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise ValueError(f"{path} ends in {path.suffix!r}, expected .safetensors, .pt, .pth or .bin")
    about: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt", device="cpu") as file:
                state, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        # Not chained: torch's own message recommends to read the file with its code.
        raise ValueError(
            f"{path} is damaged or holds more than tensors ({type(error).__name__}); it was not read, since that could run "
            "code of whoever wrote it. Fetch it again, or save model.state_dict()"
        ) from None
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        held = f" of {[*map(str, state)][:3]}" if isinstance(state, dict) else ""
        raise ValueError(f"{path} holds a {type(state).__name__}{held}, expected a model.state_dict()")
    return state, about
