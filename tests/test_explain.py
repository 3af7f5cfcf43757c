"""Class-activation maps against Grad-CAM by hand, masks against geometry, disturbed crops pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from addlib.detectors import Detection, create_detector
from addlib.explain import (
    class_activation_maps,
    coarse_detail,
    disturb_background,
    enlarge,
    face_mask,
    rank_agreement,
    share_inside,
)

class Small(nn.Module):
    """Two stages of 5 and 6 channels at 1/2 and 1/4, mean, three classes."""

    def __init__(self, classes=3):
        super().__init__()
        self.norm = nn.BatchNorm2d(5)
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), self.norm, nn.Tanh())
        self.second, self.head = nn.Conv2d(5, 6, 3, 2, 1), nn.Linear(6, classes)

    def forward(self, x):
        a = self.first(x)
        b = self.second(a).relu()
        embedding = b.mean((2, 3))
        return Detection((a, b), embedding, self.head(embedding))


@pytest.fixture
def small():
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = Small()
        network.norm.running_mean.normal_()
        # Every class is the answer to some crop.
        network.head.weight *= 20
        network.head.bias -= network.eval()(_crops()).logits.median(0).values
    return network.train()


def _crops():
    return torch.randn(7, 3, 16, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def crops():
    return _crops()


def by_hand(network, crops, classes, stage, score):
    """Equations 1 and 2 of Selvaraju et al. in float64, crop by crop and channel by channel; not rectified."""
    network = network.double().eval()
    maps = []
    for crop, number in zip(crops.double(), classes, strict=True):
        answer = network(crop[None])
        logits, features = answer.logits[0], answer.stages[stage - 1]
        value = logits[number]
        if score == "margin":
            value = value - torch.stack([y for k, y in enumerate(logits) if k != number]).mean()
        (slope,) = torch.autograd.grad(value, features)
        places = features.shape[2] * features.shape[3]
        maps.append(sum(slope[0, k].sum() / places * features[0, k] for k in range(features.shape[1])).detach())
    network.float()
    return torch.stack(maps)


@pytest.mark.parametrize("score", ["logit", "margin"])
@pytest.mark.parametrize("stage", [1, 2])
def test_maps_are_those_by_hand(small, crops, stage, score):
    classes = torch.tensor([0, 1, 2, 1, 0, 2, 2])
    expected = by_hand(small, crops, classes.tolist(), stage, score)
    options = {"classes": classes, "stage": stage, "score": score, "batch_size": 3}
    found = class_activation_maps(small, crops, rectify=False, **options)
    assert found.shape == (7, *((8, 6) if stage == 1 else (4, 3))) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(class_activation_maps(small, crops, **options), found.relu())


def test_default_is_the_deepest_stage_and_the_predicted_class(small, crops):
    predicted = small.eval()(crops).logits.argmax(1)
    assert len(set(predicted.tolist())) > 1
    torch.testing.assert_close(
        class_activation_maps(small, crops),
        class_activation_maps(small, crops, classes=predicted, stage=2),
        rtol=0,
        atol=0,
    )


def test_deepest_map_divides_the_logit_among_the_places(small, crops):
    """With a mean and a linear layer after the last stage, the sum of the map is the logit less its bias."""
    maps = class_activation_maps(small, crops, classes=2, rectify=False)
    logits = small.eval()(crops).logits[:, 2] - small.head.bias[2]
    torch.testing.assert_close(maps.sum((1, 2)), logits.detach())


def test_margins_of_two_classes_are_opposite_and_see_no_common_vector(crops):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Small(classes=2)
    options = {"rectify": False, "score": "margin"}
    real, fake = (class_activation_maps(network, crops, classes=number, **options) for number in (0, 1))
    torch.testing.assert_close(real, -fake)
    before = class_activation_maps(network, crops, classes=1, rectify=False)
    with torch.no_grad():
        network.head.weight += torch.linspace(-2, 3, 6)
    torch.testing.assert_close(class_activation_maps(network, crops, classes=1, **options), fake)
    assert not torch.allclose(class_activation_maps(network, crops, classes=1, rectify=False), before)


def test_frozen_detector_no_grad_and_other_batches_give_the_same(small, crops):
    expected = class_activation_maps(small, crops)
    small.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(class_activation_maps(small, crops), expected)
    torch.testing.assert_close(class_activation_maps(small, crops, batch_size=2), expected)


def test_stage_that_the_logits_do_not_see_is_refused(small, crops):
    forward = small.forward
    small.forward = lambda x: (answer := forward(x))._replace(stages=tuple(stage.clone() for stage in answer.stages))
    with pytest.raises(ValueError, match="do not depend"):
        class_activation_maps(small, crops)


def test_detector_is_left_as_it_was(small, crops):
    small.train()
    small(crops).logits.sum().backward()
    before = {name: (value.clone(), value.grad.clone()) for name, value in small.named_parameters()}
    statistics = small.norm.running_mean.clone()
    class_activation_maps(small, crops)
    assert small.training and not any(module._forward_hooks for module in small.modules())
    for name, value in small.named_parameters():
        assert value.requires_grad
        torch.testing.assert_close((value.detach(), value.grad), before[name], rtol=0, atol=0)
    assert torch.equal(small.norm.running_mean, statistics)


@pytest.mark.parametrize(("stage", "side"), [(1, 16), (2, 8), (3, 4), (4, 2), (None, 2)])
def test_stages_of_a_resnet(stage, side):
    detector = create_detector("resnet18_narrow")
    maps = class_activation_maps(detector, torch.randn(2, 3, 64, 64), stage=stage)
    assert maps.shape == (2, side, side) and (maps >= 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_gives_the_same(small, crops):
    expected = class_activation_maps(small, crops, stage=1)
    small.cuda()
    first = class_activation_maps(small, crops, stage=1)
    assert torch.equal(class_activation_maps(small, crops.cuda(), stage=1), first)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stage": 0}, "stage is 0, expected 1 to 2"),
        ({"stage": 3}, "stage is 3, expected 1 to 2"),
        ({"classes": 3}, "expected 0 to 2"),
        ({"classes": torch.zeros(3, dtype=torch.long)}, r"expected a number or \(7,\)"),
        ({"classes": torch.zeros(7)}, "float32"),
        ({"score": "probability"}, "expected one of"),
        ({"batch_size": 0}, "batch_size"),
        ({"crops": torch.zeros(3, 8, 8)}, "normalised floats"),
        ({"crops": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "normalised floats"),
        ({"crops": torch.zeros(0, 3, 8, 8)}, "normalised floats"),
        ({"detector": Small(classes=1), "score": "margin"}, "one logit"),
    ],
)
def test_bad_settings_are_named(small, crops, options, said):
    with pytest.raises(ValueError, match=said):
        class_activation_maps(**{"detector": small, "crops": crops} | options)


def test_enlarged_maps_keep_places_and_constants():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 3] = 1
    large = enlarge(maps, 120)
    assert large.shape == (1, 120, 120)
    assert large[0, 14, 105] > 0.9 and large[0, :45, 75:].sum() == large.sum(), "centre of the place is at 15 and 105"
    assert torch.allclose(enlarge(torch.ones(2, 3, 3), 10), torch.ones(2, 10, 10))
    with pytest.raises(ValueError, match="expected"):
        enlarge(torch.zeros(4, 4), 8)


@pytest.mark.parametrize(("size", "scale"), [(128, 1.3), (1000, 1.3), (128, 1.0), (501, 2.0)])
def test_mask_is_the_ellipse_in_the_box(size, scale):
    mask = face_mask(size, scale=scale)
    radius = size / scale / 2
    assert mask.double().mean() == pytest.approx(math.pi / (4 * scale**2), rel=0.01)
    for transformed in (mask.flip(0), mask.flip(1), mask.T):
        assert torch.equal(mask, transformed)
    rows = mask.any(1).nonzero().ravel()
    assert len(rows) == pytest.approx(2 * radius, abs=2), "it touches the box"
    # A plain count over pixel centres.
    inside = sum(
        math.hypot(x + 0.5 - size / 2, y + 0.5 - size / 2) <= radius for x in range(0, size, 7) for y in range(size)
    )
    assert int(mask[:, ::7].sum()) == inside


def test_mask_is_in_the_place_of_the_face():
    """A box in a frame, cut by addlib.faces: the mask's box is where the box was."""
    from addlib import faces

    frame = np.zeros((300, 300, 3), np.uint8)
    frame[100:200, 90:190] = 255
    crop = faces.crop(frame, (90, 100, 190, 200))
    white = torch.from_numpy(crop[..., 0] > 127)
    mask = face_mask()
    assert (mask & ~white).sum() == 0
    assert mask.sum() / white.sum() == pytest.approx(math.pi / 4, rel=0.03)


def test_share_of_known_maps():
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1:3, 1:3] = True
    maps = torch.zeros(4, 4, 4)
    maps[0] = 5.0  # everywhere the same: the mask's share of the area
    maps[1, 1, 2], maps[1, 0, 0] = 3.0, 1.0
    maps[2][~mask] = 0.1
    found = share_inside(maps, mask)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, [0.25, 0.75, 0.0, math.nan])
    np.testing.assert_allclose(share_inside(1e-3 * maps, mask), found)
    np.testing.assert_allclose(share_inside(maps, mask) + share_inside(maps, ~mask), [1, 1, 1, math.nan])
    each = torch.stack([mask, ~mask, mask, mask])
    np.testing.assert_allclose(share_inside(maps, each)[:2], [0.25, 0.25])


@pytest.mark.parametrize(
    ("maps", "mask", "said"),
    [
        (torch.ones(2, 4, 4), torch.ones(5, 4, dtype=torch.bool), "enlarge"),
        (torch.ones(2, 4, 4), torch.ones(4, 4), "float32"),
        (torch.ones(4, 4), torch.ones(4, 4, dtype=torch.bool), "B, H, W"),
        (-torch.ones(2, 4, 4), torch.ones(4, 4, dtype=torch.bool), "rectify"),
        (torch.full((2, 4, 4), math.nan), torch.ones(4, 4, dtype=torch.bool), "NaN"),
    ],
)
def test_bad_shares_are_named(maps, mask, said):
    with pytest.raises(ValueError, match=said):
        share_inside(maps, mask)


def test_agreement_is_spearmans():
    from scipy.stats import spearmanr

    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(5, 4, 3, generator=generator), torch.randn(5, 4, 3, generator=generator)
    second[0, 0] = 0.5  # ties
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_agreement(first, second), expected)
    np.testing.assert_allclose(rank_agreement(first, first.exp()), np.ones(5))
    np.testing.assert_allclose(rank_agreement(first, -3 * first), -np.ones(5))
    assert rank_agreement(first, torch.ones_like(first)).isnan().all()
    with pytest.raises(ValueError, match="same crops"):
        rank_agreement(first, second[:4])


@pytest.fixture
def faces_():
    return torch.randint(0, 256, (4, 3, 128, 128), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def test_detail_is_the_mean_step_between_blocks(faces_):
    region = ~face_mask()
    luma = np.einsum("bchw,c->bhw", faces_.numpy().astype(float), [0.299, 0.587, 0.114])
    means = luma.reshape(4, 32, 4, 32, 4).mean((2, 4))
    inside = region.numpy().reshape(32, 4, 32, 4).all((1, 3))
    steps = [
        np.abs(means[:, y, x] - means[:, y + down, x + right])
        for y in range(32)
        for x in range(32)
        for down, right in ((0, 1), (1, 0))
        if y + down < 32 and x + right < 32 and inside[y, x] and inside[y + down, x + right]
    ]
    np.testing.assert_allclose(coarse_detail(faces_, region), np.mean(steps, axis=0))
    changed = disturb_background(faces_, region, "grey")
    torch.testing.assert_close(coarse_detail(changed, region), coarse_detail(faces_, region), rtol=0, atol=0)


def test_detail_hears_edges_and_no_noise():
    flat = torch.full((1, 3, 128, 128), 100, dtype=torch.uint8)
    noisy = disturb_background(flat, ~face_mask() & face_mask(), "noise", std=3.0)
    striped = flat.clone()
    striped[..., torch.arange(128) // 16 % 2 == 1] = 130
    region = ~face_mask()
    assert coarse_detail(flat, region) == 0
    assert coarse_detail(noisy, region) < 1 < 2 < coarse_detail(striped, region)
    for arguments, said in (
        ((flat.float(), region), "uint8"),
        ((flat, face_mask(64)), "like the crops"),
        ((flat, torch.zeros_like(region)), "no two"),
    ):
        with pytest.raises(ValueError, match=said):
            coarse_detail(*arguments)
    with pytest.raises(ValueError, match="divisor"):
        coarse_detail(flat, region, block=7)


@pytest.mark.parametrize("kind", ["noise", "shuffle", "grey"])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_face_is_untouched_and_the_rest_is_not(faces_, kind, inverted):
    mask = face_mask() ^ inverted
    before = faces_.clone()
    found = disturb_background(faces_, mask, kind, generator=torch.Generator().manual_seed(0))
    assert found.dtype == torch.uint8 and found.shape == faces_.shape and torch.equal(faces_, before)
    assert torch.equal(found[..., mask], faces_[..., mask])
    changed = (found != faces_)[..., ~mask].double().mean()
    # Blocks that meet the edge of the face stay.
    assert changed > (0.4 if kind == "shuffle" else 0.9)
    assert kind != "grey" or (found[..., ~mask] == 128).all()


def test_noise_has_its_spread(faces_):
    grey = torch.full_like(faces_, 128)
    mask = face_mask()
    found = disturb_background(grey, mask, "noise", std=12.0, generator=torch.Generator().manual_seed(0))
    noise = found[..., ~mask].double() - 128
    assert noise.mean().abs() < 0.2 and noise.std() == pytest.approx(12, rel=0.02)
    assert torch.equal(disturb_background(faces_, mask, "noise", std=0.0), faces_)
    dark = disturb_background(torch.zeros_like(grey), mask, "noise", std=40.0)
    assert dark[..., ~mask].double().mean() == pytest.approx(40 / math.sqrt(2 * math.pi), rel=0.02), "clipped at 0"


def test_shuffle_permutes_whole_blocks(faces_):
    mask = face_mask()
    found = disturb_background(faces_, mask, "shuffle", generator=torch.Generator().manual_seed(0))

    def blocks(images):
        """The 8 × 8 blocks of each image as bytes, by place."""
        return [
            {
                (y, x): image[:, y : y + 8, x : x + 8].numpy().tobytes()
                for y in range(0, 128, 8)
                for x in range(0, 128, 8)
            }
            for image in images
        ]

    free = [(y, x) for y in range(0, 128, 8) for x in range(0, 128, 8) if not mask[y : y + 8, x : x + 8].any()]
    assert 60 < len(free) < 256 * (1 - 0.46)
    moves = []
    for before, after in zip(blocks(faces_), blocks(found), strict=True):
        assert all(after[place] == before[place] for place in set(before) - set(free))
        assert sorted(after[place] for place in free) == sorted(before[place] for place in free)
        where = {content: place for place, content in before.items()}
        moves.append(tuple(where[after[place]] for place in free))
    assert len(set(moves)) == len(moves), "every crop has its own permutation"


@pytest.mark.parametrize("kind", ["noise", "shuffle"])
def test_seeds(faces_, kind):
    mask = face_mask()
    draws = [
        disturb_background(faces_, mask, kind, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crops": torch.zeros(2, 3, 128, 128)}, "uint8"),
        ({"crops": torch.zeros(3, 128, 128, dtype=torch.uint8)}, "uint8"),
        ({"mask": face_mask(64)}, "like the crops"),
        ({"mask": face_mask().float()}, "bool"),
        ({"kind": "blur"}, "expected one of"),
        ({"std": -1.0}, "std"),
        ({"std": math.nan}, "std"),
        ({"kind": "shuffle", "block": 7}, "divisor"),
        ({"kind": "shuffle", "block": 128}, "0 blocks"),
    ],
)
def test_bad_disturbances_are_named(faces_, change, said):
    arguments = {"crops": faces_, "mask": face_mask(), "kind": "noise"} | change
    with pytest.raises(ValueError, match=said):
        disturb_background(**arguments)
