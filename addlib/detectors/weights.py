"""Parameters of detectors from files and to files, without ever running code that a file brings along."""

import json
import textwrap
from pathlib import Path

import torch
from torch import Tensor, nn

from addlib.files import atomic_write


def load_weights(detector: nn.Module, path) -> None:
    """Read parameters into a detector of ``create_detector``; it is left as it was if they do not fit.

    Args:
        detector: takes its own state dict, as from :func:`save_weights`, or the public weights of its architecture (ResNet,
            EfficientNet: torchvision; Xception, F3-Net: timm's or Cadene's Xception; Inception-ResNet-v1: facenet-pytorch).
            The head then **stays at its random start** unless the file's has as many classes; facenet-pytorch's never fits.
        path: ``.safetensors``, or a file of ``torch.save``, read without running any code in it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, no state dict, or one of another architecture.
    """
    state, about = read_weights(path)
    if about.get("name", detector.name) != detector.name:
        raise ValueError(f"{path} holds weights of {about['name']}, expected weights of {detector.name}")
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    # Files from before PyTorch 0.4.1 do not count batches, and nothing here uses the count.
    start = {key: tensor for key, tensor in before.items() if key.endswith("num_batches_tracked")}
    public = detector.translate(state) if hasattr(detector, "translate") and "head.weight" not in state else None
    if public:
        kept = getattr(public.get("head.weight"), "shape", None) == detector.head.weight.shape
        state = {key: tensor for key, tensor in public.items() if kept or not key.startswith("head.")}
        start |= {key: tensor for key, tensor in before.items() if key.startswith((*detector.fresh, "head."))}
    try:
        detector.load_state_dict(start | state)
    except RuntimeError as error:
        detector.load_state_dict(before)
        said = textwrap.shorten(str(error).partition(":")[2], 400, placeholder=" …")
        of = f"{detector.name} of {detector.num_classes} classes and options {detector.options}"
        raise ValueError(f"{path} (of options {about.get('options')}) does not fit {of}: {said}") from None


def save_weights(detector: nn.Module, path, about: dict | None = None) -> None:
    """Write the parameters of a detector of ``create_detector`` as safetensors; the file appears when it is complete.

    Name, number of classes, options and ``about``, which is anything that JSON holds, are written beside them for
    :func:`read_detector`. Raises ValueError for another suffix or module, OSError if the file cannot be written.
    """
    from safetensors.torch import save

    if (path := Path(path)).suffix != ".safetensors" or not hasattr(detector, "name"):
        raise ValueError(f"{type(detector).__name__} to {path}, expected one of create_detector, to a .safetensors")
    # safetensors wants plain memory: no channels-last strides, nothing on another device, nothing shared.
    whole = {"memory_format": torch.contiguous_format}
    state = {key: t.detach().cpu().clone(**whole) for key, t in detector.state_dict().items()}
    said = {"options": json.dumps(detector.options), "about": json.dumps(about or {}), "format": "pt"}
    data = save(state, {"name": detector.name, "num_classes": str(detector.num_classes), **said})
    atomic_write(path, lambda file: file.write(data))


def imagenet_file(name: str) -> Path:
    """Path of the public ImageNet weights, torchvision's IMAGENET1K_V1 or timm's, in torch.hub's cache; fetched if missing.

    Raises ValueError if there are none, OSError if they cannot be fetched.
    """
    if name in ("xception", "f3net"):
        from timm.models import get_pretrained_cfg

        url, prefix = get_pretrained_cfg("legacy_xception").url, None
    elif name in ("resnet18", "resnet34", "resnet50", "efficientnet_b0"):
        from torchvision.models import get_model_weights

        url = get_model_weights(name)["IMAGENET1K_V1"].url
        prefix = url.rpartition("-")[2].partition(".")[0]  # of the SHA-256, by torchvision's rule
    else:
        own = "your own, inception_resnet_v1: facenet-pytorch's 20180402-114759-vggface2.pt"
        raise ValueError(f"there are no ImageNet weights for {name}; give the path of {own}")
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
        except Exception as error:  # no network, a proxy's page, a broken transfer: each raises its own kind
            raise OSError(f"weights for {name} could not be downloaded ({error}); put {url} at {path}") from error
    return path


def read_weights(path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict of a file, and what :func:`save_weights` wrote beside it. Raises as :func:`load_weights`."""
    if not (path := Path(path)).is_file():
        raise FileNotFoundError(f"{path} is no file; expected weights, such as a training's weights.safetensors")
    from safetensors import safe_open

    try:
        if path.suffix != ".safetensors":
            state, about = torch.load(path, map_location="cpu", weights_only=True), {}
        else:
            with safe_open(path, framework="pt", device="cpu") as file:
                state, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        # Not chained: torch's own message recommends to read the file with its code.
        said = f"{path} is damaged or holds more than tensors ({type(error).__name__}), which could run code of others"
        raise ValueError(f"{said}; fetch it again, or save model.state_dict()") from None
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        held = f" of {[*map(str, state)][:3]}" if isinstance(state, dict) else ""
        raise ValueError(f"{path} holds a {type(state).__name__}{held}, expected a model.state_dict()")
    return state, about
