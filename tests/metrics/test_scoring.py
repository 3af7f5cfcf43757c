import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve

from addlib.metrics import accuracy, auc, by_video, ece, eer, identities, mean, scores

RANDOM = np.random.default_rng(0)


@st.composite
def scored(draw):
    """Probabilities in sixteenths, so with many ties, labels of both classes, and small integer weights for both."""
    n = draw(st.integers(2, 30))
    columns = [np.array(draw(st.lists(st.integers(0, top), min_size=n, max_size=n))) for top in (16, 1, 3)]
    values, labels, weights = columns
    labels[:2], weights[:2] = [0, 1], weights[:2].clip(1)
    return values / 16, labels, weights


def crossing(probabilities, labels):
    """Equal error rate by root finding along scikit-learn's ROC curve."""
    alarms, found, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    along = np.arange(len(alarms))
    at = brentq(lambda x: np.interp(x, along, alarms) - (1 - np.interp(x, along, found)), 0, along[-1], xtol=1e-14)
    return np.interp(at, along, alarms)


def calibration(probabilities, labels, bins):
    place = np.floor(np.asarray(probabilities) * bins)
    return sum(abs((probabilities - labels)[place == k].sum()) for k in range(bins + 1)) / len(labels)


@settings(deadline=None, max_examples=60)
@given(scored())
def test_against_scikit_learn(sample):
    probabilities, labels, weights = sample
    assert eer(probabilities, labels) == pytest.approx(crossing(probabilities, labels), abs=1e-10)
    assert ece(probabilities, labels, bins=4) == pytest.approx(calibration(probabilities, labels, 4), abs=1e-12)
    both = (auc, roc_auc_score, probabilities), (accuracy, accuracy_score, probabilities > 0.5)
    for metric, oracle, answers in both:
        expected = [oracle(labels, answers, sample_weight=each) for each in (weights, None)]
        found = metric(probabilities, labels, np.stack([weights, np.ones_like(weights)]))
        assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_scores_of_tensors_arrays_and_lists():
    quarters, labels = torch.tensor([0.25, 0.75, 0.5, 1.0], requires_grad=True), torch.tensor([0, 1, 0, 0])
    expected = scores(quarters.tolist(), labels.tolist())
    assert expected == pytest.approx((0.75, 2 / 3, 1 / 3, 0.5))
    for kind in (quarters, quarters.half(), quarters.bfloat16(), quarters.detach().numpy()):
        assert scores(kind, labels) == expected
    odds = torch.tensor([18.0, 20.0, 25.0, 30.0])  # do not saturate, as probabilities of float32 do, which are all 1 here
    assert (auc(odds, [0, 0, 1, 1]), auc(odds.sigmoid(), [0, 0, 1, 1])) == (1, 0.5)
    assert auc([-np.inf, 0.0, 1.0, np.inf], [0, 1, 0, 1]) == 0.75
    assert accuracy(torch.zeros(2, 2).softmax(1)[:, 1], [0, 0]) == 1  # one half is real, as argmax has it
    assert mean([True, False, True, True]) == 0.75 and np.isnan(mean([1.0, 2.0], weights=[0, 0]))
    assert mean(torch.tensor([1.0, 3.0]), weights=[[1, 1], [3, 1], [0, 2]]).tolist() == [2, 1.5, 3]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_no_auc_and_no_eer(label):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = scores([0.25, 0.75, 1.0], [label] * 3)
    assert np.isnan(result.auc) and np.isnan(result.eer) and result.accuracy == pytest.approx((1 + label) / 3)
    assert np.isnan(auc([0.25, 0.75], [0, 1], weights=[[1, 1], [0, 2]])).tolist() == [False, True]


def test_by_video_is_a_mean_over_frames():
    names = RANDOM.permutation(np.repeat(["Deepfakes/071_054", "original/071", "original/054", "Deepfakes/1_2"], 7))
    labels = np.array([int(name.startswith("Deepfakes")) for name in names])
    probabilities = RANDOM.random(len(names)).astype(np.float32)
    expected = pd.DataFrame({"p": probabilities.astype(float), "y": labels, "v": names}).groupby("v", sort=False).mean()
    result = by_video(torch.tensor(probabilities), torch.tensor(labels), names.astype(object))  # as FacePairs has them
    assert result.videos.tolist() == expected.index.tolist()  # in the order of the first frames
    np.testing.assert_allclose(result.probabilities, expected["p"], rtol=1e-12)
    assert result.labels.tolist() == expected["y"].tolist() and result.labels.dtype == np.int64
    with pytest.raises(ValueError, match=r"videos are \(1,\) for 2 samples"):
        by_video([0.5, 0.5], [0, 1], ["a"])
    with pytest.raises(ValueError, match="'071' has frames of both labels; name the manipulation"):
        by_video([0.5, 0.5, 0.5], [0, 0, 1], ["054", "071", "071"])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["071", "054", "071_054", "054_071", "003", "003_000"], [1, 1, 1, 1, 0, 0]),
        (["original/071", "original/054", "Deepfakes/071_054", "FaceSwap/054_071", "original/100"], [0, 0, 0, 0, 1]),
        (["original/071", "original/054"], [1, 0]),  # without their fake they are apart
        (["1_2", "5", "2_3", "4_3", "6_5", "3_4"], [0, 1, 0, 0, 1, 0]),  # chains join
        # Actors are other people than the reals of the same number; what follows "__" is no identity.
        (["DeepFakeDetection/01_02__a__YVGY8LOK", "actors/02__exit", "original/02", "01_03"], [0, 0, 2, 1]),
    ],
)
def test_groups_of_identities(names, groups):
    assert identities(names).tolist() == groups
    order = RANDOM.integers(len(names), size=4 * len(names))
    kept = np.array(groups)[order]
    assert identities(np.array(names, object)[order]).tolist() == np.searchsorted(np.unique(kept), kept).tolist()
    with pytest.raises(ValueError, match="expected names without .mp4"):
        identities([*names, "071_054.mp4"])


def test_errors():
    for probabilities, labels, message in (
        (torch.rand(3, 2), [0, 1, 0], r"are float32 \(3, 2\).*expected floats of fake alone"),
        ([0.5, 0.5], [0, 1, 0], r"\(2,\), labels int64 \(3,\)"),
        ([], [], r"\(0,\)"),
        ([0.5, float("nan")], [0, 1], "answers span .* no NaN"),
        ([0.5, 0.5], [0, 2], "labels are such as .*2.*expected 1 for fake and 0 for real"),
    ):
        for metric in (scores, auc, lambda p, y: by_video(p, y, y)):
            with pytest.raises(ValueError, match=message):
                metric(probabilities, labels)
    with pytest.raises(ValueError, match="span 0.5 to 1.5; expected probabilities"):
        scores([0.5, 1.5], [0, 1])
    for bad in ([1, 1, 1], [1, -1]):
        with pytest.raises(ValueError, match="weights are .* for 2 samples"):
            auc([0.5, 0.1], [1, 0], weights=bad)
