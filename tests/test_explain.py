"""Class-activation maps against Grad-CAM by hand, masks against geometry, disturbed crops pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from addlib import explain, faces
from addlib.detectors import Detection
from addlib.explain import class_activation_maps, disturb_background, face_mask

CROPS = torch.randn(7, 3, 16, 12, generator=torch.Generator().manual_seed(1))
FACES = torch.randint(0, 256, (4, 3, 128, 128), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


class Small(nn.Module):
    """Two stages of 5 and 6 channels at 1/2 and 1/4, mean, three classes; each is the answer to some crop."""

    def __init__(self, classes=3):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            super().__init__()
            self.norm = nn.BatchNorm2d(5)
            self.first = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), self.norm, nn.Tanh())
            self.second, self.head = nn.Conv2d(5, 6, 3, 2, 1), nn.Linear(6, classes)
            self.norm.running_mean.normal_()
            self.head.weight *= 20
            self.head.bias -= self.eval()(CROPS).logits.median(0).values
            self.train()

    def forward(self, x):
        a = self.first(x)
        b = self.second(a).relu()
        return Detection((a, b), b.mean((2, 3)), self.head(b.mean((2, 3))))


@pytest.mark.parametrize("device", ["cpu", "cuda"][: 1 + torch.cuda.is_available()])
@pytest.mark.parametrize("score", ["logit", "margin"])
@pytest.mark.parametrize("stage", [1, None])
def test_maps_are_those_by_hand(stage, score, device):
    """Equations 1 and 2 of Selvaraju et al. in float64, crop by crop and channel by channel."""
    network, expected = Small().double().eval(), []
    classes = network(CROPS.double()).logits.argmax(1)
    assert len(set(classes.tolist())) == 3
    for crop, number in zip(CROPS.double(), classes, strict=True):
        answer = network(crop[None])
        logits, features = answer.logits[0], answer.stages[0 if stage else -1]
        others = torch.stack([y for k, y in enumerate(logits) if k != number])
        (slope,) = torch.autograd.grad(logits[number] - others.mean() * (score == "margin"), features)
        expected.append(sum(slope[0, k].mean() * features[0, k] for k in range(features.shape[1])).detach())
    expected = torch.stack(expected).float()
    options = {"stage": stage, "score": score, "batch_size": 3}
    with torch.no_grad():
        found = class_activation_maps(Small().to(device), CROPS, rectify=False, classes=classes, **options)
    assert found.dtype == torch.float32 and found.device.type == "cpu"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    network = Small().to(device)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    found = class_activation_maps(network, CROPS.to(device), **options)
    torch.testing.assert_close(found, expected.relu(), atol=1e-5, rtol=1e-4)
    # The detector is left as it was.
    assert network.training and all(p.requires_grad and p.grad is None for p in network.parameters())
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def test_mask_is_the_ellipse_in_the_box_of_the_face():
    mask, (rows, columns) = face_mask(128, scale=1.3), np.mgrid[:128, :128] - 63.5
    np.testing.assert_array_equal(mask, np.hypot(rows, columns) <= 64 / 1.3)
    frame = np.zeros((300, 300, 3), np.uint8)
    frame[100:200, 90:190] = 255
    white = torch.from_numpy(faces.crop(frame, (90, 100, 190, 200))[..., 0] > 127)
    assert (mask & ~white).sum() == 0 and mask.sum() / white.sum() == pytest.approx(math.pi / 4, rel=0.03)


def test_share_of_known_maps():
    mask, maps = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, 4)
    mask[1:3, 1:3] = True
    maps[0] = 5.0  # everywhere the same: the mask's share of the area
    maps[1, 1, 2], maps[1, 0, 0] = 3.0, 1.0
    maps[2][~mask] = 0.1
    np.testing.assert_allclose(explain.share_inside(maps, mask), [0.25, 0.75, 0.0, math.nan])
    large = explain.enlarge(maps, 8)
    np.testing.assert_allclose(explain.share_inside(large, explain.enlarge(mask[None].float(), 8)[0] > 0.5)[0], 0.25)
    for bad in ((maps, mask[:3]), (maps, mask.float()), (-maps, mask), (maps / 0, mask)):
        with pytest.raises(ValueError, match="expected a bool mask"):
            explain.share_inside(*bad)


def test_agreement_is_spearmans():
    first, second = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(2))
    second[0, 0] = 0.5  # ties
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(explain.rank_agreement(first, second), expected)
    assert explain.rank_agreement(first, torch.ones_like(first)).isnan().all()
    with pytest.raises(ValueError, match="same crops"):
        explain.rank_agreement(first, second[:4])


def test_detail_is_the_mean_step_between_blocks():
    region = ~face_mask()
    luma = np.einsum("bchw,c->bhw", FACES.numpy().astype(float), [0.299, 0.587, 0.114])
    means = luma.reshape(4, 32, 4, 32, 4).mean((2, 4))
    means[:, ~region.numpy().reshape(32, 4, 32, 4).all((1, 3))] = np.nan
    steps = [np.abs(np.diff(means, axis=axis)).reshape(4, -1) for axis in (1, 2)]
    np.testing.assert_allclose(explain.coarse_detail(FACES, region), np.nanmean(np.hstack(steps), 1))


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("kind", ["noise", "shuffle", "grey"])
def test_the_face_is_untouched_and_the_rest_is_not(kind, inverted):
    mask, before = face_mask() ^ inverted, FACES.clone()
    seeds = (torch.Generator().manual_seed(seed) for seed in (0, 0, 1))
    found, again, other = (disturb_background(FACES, mask, kind, generator=seed) for seed in seeds)
    assert torch.equal(FACES, before) and torch.equal(found[..., mask], FACES[..., mask])
    assert torch.equal(found, again) and torch.equal(found, other) == (kind == "grey")
    # Blocks that meet the edge of the face stay.
    assert (found != FACES)[..., ~mask].double().mean() > (0.4 if kind == "shuffle" else 0.9)
    assert kind != "grey" or (found[..., ~mask] == 128).all()
    noise = (found.double() - FACES)[(FACES > 100) & (FACES < 150) & ~mask]  # far from where it is clipped
    assert kind != "noise" or noise.mean().abs() < 0.5 and noise.std() == pytest.approx(20, rel=0.03)


def test_shuffle_permutes_whole_blocks():
    mask = face_mask()
    found = disturb_background(FACES, mask, "shuffle", generator=torch.Generator().manual_seed(0))
    places = [(slice(y, y + 8), slice(x, x + 8)) for y in range(0, 128, 8) for x in range(0, 128, 8)]
    free, moves = [place for place in places if not mask[place].any()], set()
    for before, after in zip(FACES, found, strict=True):
        old, new = ([image[:, *place].numpy().tobytes() for place in free] for image in (before, after))
        assert sorted(old) == sorted(new)
        moves.add(tuple(map(old.index, new)))
        assert all(torch.equal(before[:, *place], after[:, *place]) for place in places if place not in free)
    assert len(moves) == len(FACES), "every crop has its own permutation"


BLIND = Small()  # its logits do not see its stages
BLIND.register_forward_hook(lambda m, x, y: y._replace(stages=tuple(stage.clone() for stage in y.stages)))


@pytest.mark.parametrize(
    ("function", "changes", "said"),
    [
        (class_activation_maps, {"stage": 3}, "stage 3.* 2 stages"),
        (class_activation_maps, {"classes": 3}, "3 logits"),
        (class_activation_maps, {"score": "probability"}, "'probability'; expected"),
        (class_activation_maps, {"crops": FACES}, "expected floats"),
        (class_activation_maps, {"detector": Small(classes=1), "score": "margin"}, "1 logits"),
        (class_activation_maps, {"detector": BLIND}, "do not depend"),
        (disturb_background, {"crops": torch.zeros(2, 3, 128, 128)}, "expected uint8"),
        (disturb_background, {"kind": "blur"}, "'blur', expected noise"),
        (disturb_background, {"kind": "shuffle", "block": 7}, "divisor"),
    ],
)
def test_bad_settings_are_named(function, changes, said):
    maps = function is class_activation_maps
    good = {"crops": CROPS, "detector": Small()} if maps else {"crops": FACES, "mask": face_mask(), "kind": "noise"}
    with pytest.raises(ValueError, match=said):
        function(**good | changes)
