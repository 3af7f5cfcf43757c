"""Parameters of detectors from files and to files, without ever running code that a file brings along."""

import json
import pickle
import re
from pathlib import Path

import torch

from addlib.files import write

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
SHOWN = 3  # keys of each kind that an error names


def load_weights(detector, path):
    """Read parameters into a detector of ``create_detector``; it is left as it was if they do not fit.

    path: ``.safetensors``, or ``.pt``, ``.pth``, ``.bin`` of ``torch.save``, read without running any code in it. It holds

    - the detector's own state dict, as from :func:`save_weights`: everything must fit, the number of classes included; or
    - the public weights of its architecture in their own naming (ResNet and EfficientNet: torchvision; Xception and F3-Net:
      timm's or Cadene's Xception; Inception-ResNet-v1: facenet-pytorch). The head then **stays at its random start** unless
      the file's has as many classes; that of facenet-pytorch is never used.

    Raises FileNotFoundError; ValueError for a damaged file, one that is no state dict, or one of another architecture.
    """
    state, metadata = _read(Path(path))
    name = detector.name
    if metadata.get("name", name) != name:
        raise ValueError(
            f"{path} does not fit {name}: it holds weights of {metadata['name']}; read it with "
            f"create_detector({metadata['name']!r}, weights=...), or give weights of {name}"
        )
    fresh, public = (), None
    if "head.weight" not in state:
        public = detector.translate(state)
    if public is not None:
        state, fresh = public, detector.fresh
        if state.get("head.weight", torch.empty(0)).shape != detector.head.weight.shape:
            state = {key: tensor for key, tensor in state.items() if not key.startswith("head.")}
            fresh = (*fresh, "head.")
    problems = _problems(detector.state_dict(), state, fresh)
    if problems:
        made = ", ".join(f"{key} {metadata[key]}" for key in ("num_classes", "options") if key in metadata)
        raise ValueError(
            f"{path} does not fit {name}: {'; '.join(problems)}; expected a state dict of addlib's {name} with num_classes "
            f"{detector.num_classes}, options {json.dumps(detector.options)}{made and f' (the file says: {made})'}, or of "
            f"{detector.public}"
        )
    detector.load_state_dict(state, strict=False)


def save_weights(detector, path, about=None):
    """Write the parameters of a detector of ``create_detector`` as safetensors; the file appears when it is complete.

    path: ends in ``.safetensors``; its folder is made. The metadata of the file are ``name``, ``num_classes`` and ``options``
    (JSON), so that :func:`read_detector` needs nothing else. about: more of them, what JSON holds by name, such as what it was
    trained on. Raises ValueError for another suffix or module, OSError if the file
    cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path is {path}, expected one that ends in .safetensors")
    if not hasattr(detector, "name"):
        raise ValueError(f"detector is a {type(detector).__name__}, expected one of create_detector, which has a name")
    # safetensors wants plain memory: no channels-last strides, nothing on another device, nothing shared.
    state = {
        key: t.detach().cpu().clone(memory_format=torch.contiguous_format) for key, t in detector.state_dict().items()
    }
    settings = {"num_classes": str(detector.num_classes), "options": json.dumps(detector.options)}
    more = {"about": json.dumps(about)} if about else {}
    data = save(state, {"format": "pt", "name": detector.name, **settings, **more})
    write(path, lambda file: file.write(data))


def read_detector(path):
    """The detector that :func:`save_weights` wrote, in evaluation mode, and what it was told about it.

    path: a ``.safetensors`` of ``save_weights``, such as data/runs/.../weights.safetensors.
    Returns (detector, about), about a dict. Raises as :func:`load_weights`, and ValueError for a file that does not say which
    detector it is of.
    """
    from . import create_detector

    path = Path(path)
    _, metadata = _read(path)
    if "name" not in metadata:
        raise ValueError(
            f"{path} does not say which detector it is of; expected a file of save_weights. For other weights: "
            "create_detector(name, weights=...), then save_weights"
        )
    options = json.loads(metadata["options"])
    detector = create_detector(metadata["name"], int(metadata["num_classes"]), weights=path, **options)
    return detector.eval(), json.loads(metadata.get("about", "{}"))


def imagenet_file(name):
    """Path of the public ImageNet weights for a detector, in torch.hub's cache; downloaded there if they are missing.

    torchvision's IMAGENET1K_V1, those of the paper's time, for the ResNets and EfficientNet; timm's for Xception and F3-Net.
    Raises ValueError if there are none for the detector, OSError if the file is missing and cannot be fetched.
    """
    url, hashed = _imagenet_url(name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.exists():
        return path
    prefix = path.stem.rsplit("-", 1)[1] if hashed else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
    except Exception as error:  # no network, a proxy's page, a broken transfer: each raises its own kind
        raise OSError(
            f"the ImageNet weights for {name} are not on this machine and could not be downloaded ({error}); fetch {url} "
            f"where there is a network and put it at {path}, or give the file's path as weights"
        ) from error
    return path


def _imagenet_url(name):
    """(address, whether torchvision's rule holds that the file name ends in the start of the SHA-256)."""
    if name in ("resnet18", "resnet34", "resnet50", "efficientnet_b0"):
        from torchvision.models import get_model_weights

        return get_model_weights(name)["IMAGENET1K_V1"].url, True
    if name in ("xception", "f3net"):
        from timm.models import get_pretrained_cfg

        return get_pretrained_cfg("legacy_xception").url, False
    if name == "inception_resnet_v1":
        raise ValueError(
            "inception_resnet_v1 has no ImageNet weights here, but VGGFace2 ones: fetch 20180402-114759-vggface2.pt from the "
            "releases of facenet-pytorch on GitHub and give its path as weights"
        )
    raise ValueError(f"there are no ImageNet weights for {name}; give weights=None, or the path of weights of your own")


def _read(path):
    """(state dict, metadata) of a file. Raises as :func:`load_weights`."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file with weights")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; give weights=None for a random start")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    elif path.suffix in TORCH_SUFFIXES:
        state, metadata = _read_torch(path), {}
    else:
        raise ValueError(f"{path} ends in {path.suffix!r}, expected .safetensors, or {', '.join(TORCH_SUFFIXES)}")
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    ):
        held = f"a dict of {_some(state)}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ValueError(f"{path} holds {held}, expected a state dict: names and tensors; save model.state_dict()")
    return state, metadata


def _read_safetensors(path):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file ({error}){_look(path)}; fetch it again") from error


def _read_torch(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        # Not chained: torch's own message recommends to read the file with its code.
        found = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if found:
            raise ValueError(
                f"{path} holds more than tensors ({found[1]}), and reading that could run code of whoever wrote it; it was "
                "not read. Expected a state dict: save model.state_dict()"
            ) from None
        raise ValueError(
            f"{path} is not a complete file of torch.save ({type(error).__name__}){_look(path)}; fetch it again"
        ) from None


def _look(path):
    """What a file that is none of weights seems to be instead."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return ": it is empty"
    if start.startswith(b"<"):
        return ": it is a web page, as saved instead of a download"
    if start.startswith(b"version https://git-lfs"):
        return ": it is a pointer of Git LFS, not the file"
    return ""


def _problems(expected, state, fresh):
    """What keeps a state dict from fitting, as phrases. fresh: beginnings of names that may be missing."""
    # Files from before PyTorch 0.4.1 do not count batches, and nothing here uses the count.
    missing = [
        key
        for key in expected
        if key not in state and not key.startswith(fresh) and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in expected]
    other = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    found = (("missing", missing), ("not expected", unexpected), ("of another shape", other))
    return [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in found if keys]


def _some(keys):
    keys = [str(key) for key in keys]
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
