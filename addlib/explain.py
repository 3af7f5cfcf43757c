"""Where a detector looks: class-activation maps, their share on the face, and crops whose background is disturbed.

Grad-CAM, equations 1 and 2 of Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based
Localization" (ICCV 2017). With the maps A_k of a stage, k = 1 ... C, on a grid of Z places, and a score y of the answer,

    weight of channel k = 1/Z * sum over the places of dy / dA_k
    map                 = ReLU(sum over k of weight_k * A_k)

Here a map keeps the unit of the score and the stage's own grid, so that maps can be added up and compared.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

SCORES = ("logit", "margin")
KINDS = ("noise", "shuffle", "grey")


def class_activation_maps(
    detector: nn.Module, crops: Tensor, *, classes=None, stage: int | None = None, score: str = "logit", rectify: bool = True,
    batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Grad-CAM of every crop for one class each.

    Args:
        detector: of ``addlib.detectors``, on any device; it is asked in evaluation mode and left as it was.
        crops: (B, 3, H, W) floats, normalised as the detector takes them (``detectors.normalisation``), on any device.
        classes: one for all, or (B,) integers; 1 is fake and 0 real. None takes the class that the detector predicts for
            each crop, as the paper does.
        stage: number of the stage, 1 the shallowest; None takes the deepest.
        score: "logit" of the class, as in Selvaraju et al.; "margin" is this logit minus the mean of the others, on which
            the probability depends when there are two classes.
        rectify: False leaves the ReLU out: what is negative speaks against the class.
        batch_size: crops at a time.

    Returns:
        (B, h, w) float32 on the CPU, on the grid of the stage, in units of the score per place; not normalised. Zero
        everywhere where all places speak against the class. The same arguments give the same maps.

    Raises:
        ValueError: crops, classes, stage or score do not fit, or the logits do not depend on this stage's maps (the first
            three stages of F3-Net are copies).
    """
    if crops.ndim != 4 or not len(crops) or not crops.is_floating_point():
        raise ValueError(
            f"crops are {crops.dtype} of shape {tuple(crops.shape)}, expected normalised floats (B, 3, H, W)"
        )
    if score not in SCORES or batch_size < 1:
        raise ValueError(f"score is {score!r} and batch_size {batch_size}, expected one of {list(SCORES)}, and at least 1")
    chosen = None if classes is None else torch.as_tensor(classes).cpu()
    if chosen is not None:
        if chosen.ndim > 1 or chosen.is_floating_point() or (chosen.ndim and len(chosen) != len(crops)):
            raise ValueError(
                f"classes are {chosen.dtype} of shape {tuple(chosen.shape)}, expected a number or ({len(crops)},)"
            )
        chosen = chosen.expand(len(crops))
    network = copy.deepcopy(detector).eval().requires_grad_(False)
    device = next(network.parameters()).device
    found = []
    # TF32 would round the maps of some GPUs to three digits; benchmark mode may choose another algorithm every time.
    with torch.enable_grad(), torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        for start in range(0, len(crops), batch_size):
            part = slice(start, start + batch_size)
            # No parameter needs a gradient, so the input must: else there is none at the stage.
            answer = network(crops[part].detach().to(device).requires_grad_())
            found.append(_maps(answer, stage, None if chosen is None else chosen[part].to(device), score))
    maps = torch.cat(found)
    return maps.relu() if rectify else maps


def _maps(answer, stage, classes, score):
    """Weighted sums of the maps of a batch, (B, h, w), before the ReLU."""
    depth, count = len(answer.stages), answer.logits.shape[1]
    stage = depth if stage is None else stage
    if stage not in range(1, depth + 1):
        raise ValueError(f"stage is {stage!r}, expected 1 to {depth}, shallow to deep")
    if classes is not None and not ((classes >= 0) & (classes < count)).all():
        raise ValueError(f"classes are {sorted(set(classes.tolist()))}, expected 0 to {count - 1}")
    if score == "margin" and count < 2:
        raise ValueError("score is 'margin' and the detector has one logit, expected two or more; use 'logit'")
    classes = answer.logits.argmax(1) if classes is None else classes.long()
    y = answer.logits.gather(1, classes[:, None])[:, 0]
    if score == "margin":
        y = y - (answer.logits.sum(1) - y) / (count - 1)
    A = answer.stages[stage - 1]
    (slope,) = torch.autograd.grad(y.sum(), A, allow_unused=True)
    if slope is None:
        raise ValueError("the logits do not depend on this stage's maps, so it has no class-activation map; choose the last stage")
    return (slope.mean((2, 3), keepdim=True) * A).sum(1).detach().float().cpu()


def enlarge(maps: Tensor, size: int) -> Tensor:
    """Maps (B, h, w) on a grid of size × size pixels, bilinear between the centres of the places: (B, size, size)."""
    if maps.ndim != 3 or size < 1:
        raise ValueError(f"maps are {tuple(maps.shape)} and size is {size}, expected (B, h, w) and at least 1 pixel")
    return nn.functional.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def face_mask(size: int = 128, *, scale: float = 1.3) -> Tensor:
    """The face in a crop: the ellipse inscribed in the box that dlib found.

    A crop is ``scale`` times the longer side of the box (``addlib.faces.square``), so the box is its middle 1/scale. That
    holds for every crop that ``prepare`` wrote, as long as the square did not meet the edge of the frame.

    Args:
        size: height and width of the crop in pixels.
        scale: of the crop against the box.

    Returns:
        (size, size) bool, True where a pixel's centre is inside; about π / (4 scale²) of the crop. For the window that a
        recipe cuts, take the middle of it: ``training.centre``.

    Raises:
        ValueError: a size below 1 or a scale below 1.
    """
    if size < 1 or not scale >= 1:
        raise ValueError(f"size is {size} and scale {scale}, expected at least 1 pixel and at least 1")
    offset = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    squares = (offset / (size / scale / 2)).square()
    return squares[:, None] + squares[None, :] <= 1


def share_inside(maps: Tensor, mask: Tensor) -> Tensor:
    """Share of each map that lies inside a region.

    Args:
        maps: (B, H, W), not negative, any unit.
        mask: (H, W) bool, or one for each map.

    Returns:
        (B,) float64 in [0, 1]; a map that is the same everywhere gives the mask's share of the area, and a map that is zero
        everywhere NaN.

    Raises:
        ValueError: the shapes differ, the mask is not bool, or a map is negative or not finite.
    """
    if maps.ndim != 3 or mask.dtype != torch.bool or mask.shape not in (maps.shape, maps.shape[1:]):
        raise ValueError(
            f"maps are {tuple(maps.shape)} and the mask is {mask.dtype} of shape {tuple(mask.shape)}, expected (B, H, W) and a "
            "bool (H, W); enlarge the maps to the size of the mask"
        )
    if not (torch.isfinite(maps) & (maps >= 0)).all():
        raise ValueError("maps hold negative or infinite values or NaN, expected finite ones from 0; rectify them")
    maps = maps.double()
    return (maps * mask.to(maps.device)).sum((1, 2)) / maps.sum((1, 2))


def rank_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps of the same crop over their places.

    Args:
        first, second: (B, h, w), of any sign. Not rectified ones, whose zeros are all of one rank, use every place.

    Returns:
        (B,) float64 in [-1, 1]; NaN where a map is the same everywhere.

    Raises:
        ValueError: the shapes differ.
    """
    if first.ndim != 3 or first.shape != second.shape:
        raise ValueError(
            f"maps are {tuple(first.shape)} and {tuple(second.shape)}, expected (B, h, w) of the same crops and stage"
        )
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(maps.flatten(1).cpu().numpy(), axis=1)) for maps in (first, second)]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def coarse_detail(crops: Tensor, region: Tensor, *, block: int = 4) -> Tensor:
    """How busy a region of each crop is: mean step of luma between neighbouring blocks that lie in the region as a whole.

    Blocks, because between single pixels a quiet background has little but the noise of the sensor.

    Args:
        crops: (B, 3, H, W) uint8, RGB.
        region: (H, W) bool, such as ``~face_mask()``.
        block: side in pixels, a divisor of H and W.

    Returns:
        (B,) float64 in grey levels, from 0.

    Raises:
        ValueError: types or shapes do not fit, or no two neighbouring blocks lie in the region.
    """
    _check_crops(crops, region)
    if block < 1 or crops.shape[2] % block or crops.shape[3] % block:
        raise ValueError(f"block is {block}, expected a divisor of {crops.shape[2]} and {crops.shape[3]}")
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=crops.device)  # ITU-R BT.601
    luma = torch.einsum("bchw,c->bhw", crops.double(), weights)
    means = nn.functional.avg_pool2d(luma, block)
    whole = nn.functional.avg_pool2d(region.to(crops.device, torch.float64)[None], block)[0] == 1
    steps = [
        (means.diff(dim=axis).abs().flatten(1)[:, both.flatten()])
        for axis, both in ((1, whole[1:] & whole[:-1]), (2, whole[:, 1:] & whole[:, :-1]))
    ]
    steps = torch.cat(steps, 1)
    if not steps.shape[1]:
        raise ValueError(f"no two neighbouring blocks of {block} pixels lie in the region; take smaller ones")
    return steps.mean(1)


def disturb_background(
    crops: Tensor, mask: Tensor, kind: str, *, generator=None, std: float = 20.0, block: int = 8
) -> Tensor:
    """Crops with another background and the same face, bit by bit.

    Le and Woo propose both kinds of attack, noise and disorder, at the end of their supplement, and do neither. The crops
    are disturbed as a detector gets them, after the codec.

    Args:
        crops: (B, 3, H, W) uint8.
        mask: (H, W) bool, True where nothing may change, such as ``face_mask``; its complement disturbs the face instead.
        kind: "noise" adds normal noise to every value of the background, rounds, and clips to 0 ... 255. "shuffle" permutes
            the square blocks that lie in the background as a whole, for each crop anew; what else is background stays.
            "grey" sets it to 128.
        generator: torch.Generator on the CPU, for noise and shuffle; every device draws the same.
        std: of the noise, in grey levels. block: side of the blocks in pixels.

    Returns:
        (B, 3, H, W) uint8, a new tensor on the device of the crops.

    Raises:
        ValueError: types, shapes or settings do not fit, or fewer than two blocks lie in the background.
    """
    _check_crops(crops, mask)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {list(KINDS)}")
    mask = mask.cpu()
    if kind == "shuffle":
        return _shuffled(crops, mask, block, generator)
    if kind == "noise":
        if not 0 <= std < float("inf"):
            raise ValueError(f"std is {std}, expected a number of grey levels from 0")
        noise = std * torch.randn(crops.shape, generator=generator)
        changed = (crops.float() + noise.to(crops.device)).round().clamp(0, 255).to(torch.uint8)
    else:
        changed = torch.full_like(crops, 128)
    return torch.where(mask.to(crops.device), crops, changed)


def _check_crops(crops, mask):
    if crops.dtype != torch.uint8 or crops.ndim != 4 or crops.shape[1] != 3:
        raise ValueError(f"crops are {crops.dtype} of shape {tuple(crops.shape)}, expected uint8 (B, 3, H, W)")
    if mask.dtype != torch.bool or mask.shape != crops.shape[2:]:
        raise ValueError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}, expected bool {tuple(crops.shape[2:])} like the crops"
        )


def _shuffled(crops, mask, block, generator):
    height, width = mask.shape
    if block < 1 or height % block or width % block:
        raise ValueError(f"block is {block}, expected a divisor of {height} and {width}")
    # A pixel of each block, counted along the rows: (blocks, pixels of a block).
    pixels = torch.arange(height * width).view(height // block, block, width // block, block)
    pixels = pixels.transpose(1, 2).reshape(-1, block * block)
    free = pixels[~mask.view(-1)[pixels].any(1)]
    if len(free) < 2:
        raise ValueError(f"{len(free)} blocks of {block} pixels lie in the background, expected two or more")
    order = torch.rand(len(crops), len(free), generator=generator).argsort(1)
    source = free[order].flatten(1).to(crops.device)
    flat = crops.flatten(2).clone()
    # Distinct targets, so the order in which they are written does not matter.
    flat[:, :, free.flatten().to(crops.device)] = flat.gather(2, source[:, None].expand(-1, crops.shape[1], -1))
    return flat.view(crops.shape)
