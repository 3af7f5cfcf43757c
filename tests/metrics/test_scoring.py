import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve

from addlib.metrics import accuracy, auc, eer, mean, scores

RANDOM = np.random.default_rng(0)


@st.composite
def scored(draw, smallest=2):
    """Probabilities in sixteenths, so with many ties, labels of both classes, and small integer weights for both."""
    n = draw(st.integers(smallest, 30))
    sixteenths = draw(st.lists(st.integers(0, 16), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    labels[:2], weights[:2] = [0, 1], [max(1, w) for w in weights[:2]]
    return np.array(sixteenths) / 16, np.array(labels), np.array(weights)


def crossing(probabilities, labels):
    """Equal error rate by root finding along scikit-learn's ROC curve."""
    alarms, found, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    along = np.arange(len(alarms))
    at = brentq(lambda x: np.interp(x, along, alarms) - (1 - np.interp(x, along, found)), 0, along[-1], xtol=1e-14)
    return np.interp(at, along, alarms)


@settings(deadline=None, max_examples=60)
@given(scored())
def test_against_scikit_learn(sample):
    probabilities, labels, _ = sample
    assert accuracy(probabilities, labels) == pytest.approx(accuracy_score(labels, probabilities > 0.5), abs=1e-15)
    assert auc(probabilities, labels) == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert eer(probabilities, labels) == pytest.approx(crossing(probabilities, labels), abs=1e-10)


@settings(deadline=None, max_examples=60)
@given(scored())
def test_weights_count_samples(sample):
    probabilities, labels, weights = sample
    repeated = np.repeat(probabilities, weights), np.repeat(labels, weights)
    assert auc(probabilities, labels, weights) == auc(*repeated)
    assert eer(probabilities, labels, weights) == eer(*repeated)
    assert accuracy(probabilities, labels, weights) == pytest.approx(accuracy(*repeated), abs=1e-15)
    both = np.stack([weights, np.ones_like(weights)])
    for metric in (accuracy, auc, eer):
        rows = metric(probabilities, labels, weights=both)
        assert rows.shape == (2,) and rows.dtype == np.float64
        assert rows.tolist() == pytest.approx(
            [metric(probabilities, labels, weights), metric(probabilities, labels)], abs=1e-15
        )
        assert metric(probabilities, labels, weights / 2) == pytest.approx(rows[0], abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(scored())
def test_ranking_is_all_that_counts_and_classes_may_be_swapped(sample):
    probabilities, labels, _ = sample
    for metric in (auc, eer):
        assert metric(probabilities**2, labels) == metric(probabilities, labels)
        assert metric(1 - probabilities, 1 - labels) == pytest.approx(metric(probabilities, labels), abs=1e-12)
        assert metric(1 - probabilities, labels) == pytest.approx(1 - metric(probabilities, labels), abs=1e-12)
        assert metric(probabilities[::-1], labels[::-1]) == metric(probabilities, labels)


def calibration(probabilities, labels, bins):
    total = 0.0
    for k in range(bins):
        inside = [i for i, p in enumerate(probabilities) if k / bins <= p < (k + 1) / bins]
        if inside:
            gap = sum(probabilities[i] for i in inside) - sum(labels[i] for i in inside)
            total += abs(gap) / len(probabilities)
    return total


def test_scores_of_a_sample():
    labels = RANDOM.integers(0, 2, 500)
    probabilities = RANDOM.normal(0.4 + 0.2 * labels, 0.2).clip(0.001, 0.999)
    for kind in (torch.tensor, np.asarray, list):
        result = scores(kind(probabilities), kind(labels))
        assert result.accuracy == pytest.approx(accuracy_score(labels, probabilities > 0.5), abs=1e-12)
        assert result.auc == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-6)
        assert result.eer == pytest.approx(crossing(probabilities, labels), abs=1e-10)
        assert result.ece == pytest.approx(calibration(probabilities, labels, 15), abs=1e-6)
    assert scores(probabilities, labels, bins=4).ece == pytest.approx(calibration(probabilities, labels, 4), abs=1e-6)
    assert scores(probabilities.astype(np.float32), labels > 0)._fields == ("accuracy", "auc", "eer", "ece")


def test_half_precision_and_gradients():
    probabilities = torch.tensor([0.25, 0.75, 0.5, 1.0], requires_grad=True)
    labels = torch.tensor([0, 1, 0, 0])
    expected = scores(probabilities, labels)
    assert expected[:2] == (0.75, pytest.approx(2 / 3))
    assert scores(probabilities.half(), labels) == scores(probabilities.bfloat16(), labels) == expected


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_no_auc_and_no_eer(label):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = scores([0.25, 0.75, 1.0], [label] * 3)
    assert np.isnan(result.auc) and np.isnan(result.eer)
    assert result.accuracy == pytest.approx((1 + label) / 3)
    assert result.ece == pytest.approx(abs(2 / 3 - label) if label == 0 else 1 / 3, abs=1e-6)
    assert np.isnan(auc([0.25, 0.75], [0, 1], weights=[[1, 1], [0, 2]])).tolist() == [False, True]


def test_equal_probabilities_say_nothing():
    result = scores([0.5] * 4, [0, 0, 1, 0])
    assert result[:3] == (0.75, 0.5, 0.5)


def test_half_is_real_as_argmax_has_it():
    logits = torch.zeros(2, 2)
    assert (logits.argmax(1) == 0).all()
    assert accuracy(logits.softmax(1)[:, 1], [0, 0]) == 1


def test_mean():
    assert mean([True, False, True, True]) == 0.75
    assert mean(torch.tensor([1.0, 3.0]), weights=[[1, 1], [3, 1], [0, 2]]).tolist() == [2, 1.5, 3]
    assert np.isnan(mean([1.0, 2.0], weights=[0, 0]))


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (torch.rand(3, 2), [0, 1, 0], r"probabilities are \(3, 2\), expected \(N,\).*softmax"),
        ([0.5, 0.5], [0, 1, 0], r"labels are \(3,\) and probabilities \(2,\)"),
        ([[0.5], [0.5]], [0, 1], r"\(2, 1\)"),
        ([0.5, 0.5], [[0], [1]], r"labels are \(2, 1\)"),
        ([], [], "empty"),
        (0.5, 1, r"probabilities are \(\)"),
        ([0.5, float("nan"), float("nan")], [0, 1, 0], "2 of 3 probabilities are NaN, the first at 1"),
        ([0.5, 1.5], [0, 1], r"span 0.5 to 1.5, expected \[0, 1\].*softmax"),
        ([-np.inf, 0.5], [0, 1], "span -inf"),
        ([0, 1], [0, 1], "probabilities are int64, expected floats"),
        ([0.5, 0.5], [0, 2], r"labels hold \[2\]"),
        ([0.5, 0.5], [-1, 1], r"labels hold \[-1\]"),
        ([0.5, 0.5], [0.0, 1.0], "labels are float64, expected integers"),
        ([0.5, 0.5], ["real", "fake"], "expected integers"),
    ],
)
def test_errors(probabilities, labels, message):
    for metric in (scores, accuracy, auc, eer):
        with pytest.raises(ValueError, match=message):
            metric(probabilities, labels)


def test_errors_of_settings():
    with pytest.raises(ValueError, match="bins is 0"):
        scores([0.5], [1], bins=0)
    with pytest.raises(ValueError, match=r"weights are \(3,\) for 2 samples; expected \(2,\) or \(D, 2\)"):
        auc([0.5, 0.1], [1, 0], weights=[1, 1, 1])
    for bad in ([1, -1], [1, np.nan], [1, np.inf]):
        with pytest.raises(ValueError, match="negative or not finite"):
            auc([0.5, 0.1], [1, 0], weights=bad)
    for bad in ([], [[1.0]], [np.nan], ["a"]):
        with pytest.raises(ValueError, match="values are"):
            mean(bad)


def test_import_is_light_and_silent():
    code = (
        "import sys, addlib.metrics; "
        "print([m for m in ('torchmetrics', 'sklearn', 'lightning', 'scipy.stats', 'dask') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == "[]" and not run.stderr
