"""Where a detector looks: class-activation maps, their share on the face, and crops whose background is disturbed."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional


def class_activation_maps(
    detector: nn.Module, crops: Tensor, *, classes=None, stage: int | None = None, score: str = "logit", rectify: bool = True,
    batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Grad-CAM of every crop, equations 1 and 2 of Selvaraju et al. (ICCV 2017); the detector is left as it was.

    With the maps A_k of a stage on Z places and a score y: ReLU(Σ_k weight_k · A_k), weight_k = 1/Z · Σ_places ∂y / ∂A_k.

    Args:
        crops: (B, 3, H, W) floats, normalised as the detector takes them, on any device.
        classes: one for all, or (B,) integers; None takes the class that the detector predicts, as the paper does.
        stage: number of the stage, 1 the shallowest; None takes the deepest.
        score: "logit" of the class, as in the paper, or "margin", this logit minus the mean of the others.
        rectify: False leaves the ReLU out: what is negative speaks against the class.

    Returns:
        (B, h, w) float32 on the CPU, on the grid of the stage, in units of the score per place.
    """
    if crops.ndim != 4 or not len(crops) or not crops.is_floating_point() or score not in ("logit", "margin"):
        found = f"{crops.dtype} {tuple(crops.shape)}, {score!r}"
        raise ValueError(f"{found}; expected floats (B, 3, H, W), logit or margin")
    given = None if classes is None else torch.as_tensor(classes).long().expand(len(crops))
    network = copy.deepcopy(detector).eval().requires_grad_(False)
    device, found = next(network.parameters()).device, []
    # TF32 would round the maps of some GPUs to three digits; benchmark mode may choose another algorithm every time.
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(False), torch.enable_grad(), exact:
        for start in range(0, len(crops), batch_size):
            part = slice(start, start + batch_size)
            # No parameter needs a gradient, so the input must: else there is none at the stage.
            answer = network(crops[part].detach().clone().to(device).requires_grad_())
            classes = answer.logits.argmax(1) if given is None else given[part].to(device)
            found.append(_maps(answer, classes, len(answer.stages) if stage is None else stage, score))
    return torch.cat(found).relu() if rectify else torch.cat(found)


def _maps(answer, classes, stage, score):
    count, depth = answer.logits.shape[1], len(answer.stages)
    if not 1 <= stage <= depth or not ((classes >= 0) & (classes < count)).all() or (score, count) == ("margin", 1):
        raise ValueError(f"{score} of {set(classes.tolist())}, stage {stage}; there are {count} logits, {depth} stages")
    y = answer.logits.gather(1, classes[:, None])[:, 0]
    if score == "margin":
        y = y - (answer.logits.sum(1) - y) / (count - 1)
    A = answer.stages[stage - 1]
    (slope,) = torch.autograd.grad(y.sum(), A, allow_unused=True)
    if slope is None:
        raise ValueError(f"the logits do not depend on the maps of stage {stage}; choose the last stage")
    return (slope.mean((2, 3), keepdim=True) * A).sum(1).detach().float().cpu()


def enlarge(maps: Tensor, size: int) -> Tensor:
    """Maps (B, h, w) on a grid of size × size pixels, bilinear between the centres of the places: (B, size, size)."""
    return functional.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def face_mask(size: int = 128, *, scale: float = 1.3) -> Tensor:
    """The face in a crop, (size, size) bool: the ellipse inscribed in dlib's box, the middle 1/scale of the crop."""
    squares = ((torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / (size / scale / 2)).square()
    return squares[:, None] + squares <= 1


def share_inside(maps: Tensor, mask: Tensor) -> Tensor:
    """Share (B,) of maps (B, H, W) in a region, float64, NaN for a map of zeros. mask: (H, W) bool, or one for each map."""
    if mask.dtype != torch.bool or mask.shape not in (maps.shape, maps.shape[1:]) or not (maps >= 0).all():
        found = f"mask {mask.dtype} {tuple(mask.shape)}, maps {tuple(maps.shape)} from {maps.min():.3g}"
        raise ValueError(f"{found}; expected a bool mask of the size of rectified, enlarged maps")
    maps = maps.double()
    return (maps * mask.to(maps.device)).sum((1, 2)) / maps.sum((1, 2))


def rank_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation (B,) of maps (B, h, w), not rectified, of the same crops; NaN for a constant map."""
    from scipy.stats import rankdata

    if first.shape != second.shape:
        raise ValueError(f"maps are {tuple(first.shape)} and {tuple(second.shape)}, expected the same crops and stage")
    ranks = [torch.from_numpy(rankdata(maps.flatten(1).cpu().numpy(), axis=1)) for maps in (first, second)]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def coarse_detail(crops: Tensor, region: Tensor, *, block: int = 4) -> Tensor:
    """How busy a region (H, W) of crops (B, 3, H, W) uint8 is: mean step of luma between neighbouring blocks inside it.

    block: side in pixels; single pixels would show the sensor's noise. Returns (B,) float64 in grey levels.
    """
    _check(crops, region, block)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=crops.device)  # ITU-R BT.601
    means = functional.avg_pool2d(torch.einsum("bchw,c->bhw", crops.double(), weights), block)
    whole = functional.avg_pool2d(region.to(crops.device, torch.float64)[None], block)[0] == 1
    down, right = whole[1:] & whole[:-1], whole[:, 1:] & whole[:, :-1]
    return torch.cat([means.diff(dim=1).abs()[:, down], means.diff(dim=2).abs()[:, right]], 1).mean(1)


def disturb_background(
    crops: Tensor, mask: Tensor, kind: str, *, generator=None, std: float = 20.0, block: int = 8
) -> Tensor:
    """Crops (B, 3, H, W) uint8 with another background and the same face, bit by bit: both attacks that Le and Woo propose.

    Args:
        mask: (H, W) bool, True where nothing may change, such as ``face_mask``.
        kind: "noise" adds normal noise of ``std`` grey levels. "shuffle" permutes the square blocks of side ``block`` that lie
            wholly in the background, for each crop anew. "grey" sets it to 128.
        generator: torch.Generator on the CPU; every device draws the same.
    """
    _check(crops, mask, block if kind == "shuffle" else 1)
    mask = mask.to(crops.device)
    if kind == "shuffle":
        tiles = functional.pixel_unshuffle(crops, block)
        free = (~functional.pixel_unshuffle(mask[None], block).any(0)).flatten().nonzero()[:, 0]
        order = torch.arange(tiles[0, 0].numel(), device=crops.device).repeat(len(crops), 1)
        order[:, free] = free[torch.rand(len(crops), len(free), generator=generator).argsort(1).to(crops.device)]
        moved = tiles.flatten(2).gather(2, order[:, None].expand(-1, tiles.shape[1], -1))
        return functional.pixel_shuffle(moved.view(tiles.shape), block)
    if kind == "noise":
        noise = std * torch.randn(crops.shape, generator=generator)
        changed = (crops.float() + noise.to(crops.device)).round().clamp(0, 255).to(torch.uint8)
    elif kind == "grey":
        changed = torch.full_like(crops, 128)
    else:
        raise ValueError(f"kind is {kind!r}, expected noise, shuffle or grey")
    return torch.where(mask, crops, changed)


def _check(crops, mask, block):
    height, width = crops.shape[-2:]
    if crops.dtype != torch.uint8 or crops.ndim != 4 or mask.dtype != torch.bool or mask.shape != (height, width):
        raise ValueError(f"{crops.dtype} {tuple(crops.shape)}, {mask.dtype} {tuple(mask.shape)}; expected uint8, bool")
    if height % block or width % block:
        raise ValueError(f"block is {block}, expected a divisor of {height} and {width}")
