import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from addlib import metrics
from addlib.metrics import auc, bootstrap_interval, intervals, mean, paired_difference, seed_interval


def clustered(random, groups=30, each=8):
    """Probabilities, labels, groups: half of each group fake; a group's fakes are all easy, or all hard."""
    labels, group = np.tile(np.arange(each) % 2, groups), np.repeat(np.arange(groups), each)
    ease = random.normal(0, 1, groups)[group]
    logits = (2 * labels - 1) * (1 + ease) + random.normal(0, 0.5, len(labels))
    return 1 / (1 + np.exp(-logits)), labels, group


def test_against_a_plain_loop():
    probabilities, labels, group = clustered(np.random.default_rng(0), groups=6)
    random, values = np.random.default_rng(5), []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(group == g) for g in random.integers(6, size=6)])
        values.append(roc_auc_score(labels[rows], probabilities[rows]))
    result = bootstrap_interval(auc, probabilities, labels, groups=group, level=0.9, draws=200, generator=5)
    expected = (roc_auc_score(labels, probabilities), *np.quantile(values, [0.05, 0.95]))
    assert result[:3] == pytest.approx(expected, abs=1e-12) and result.groups == 6


def test_seed_decides_and_order_names_and_blocks_do_not(monkeypatch):
    probabilities, labels, group = clustered(np.random.default_rng(0))
    first = bootstrap_interval(auc, probabilities, labels, groups=group, draws=100, generator=3)
    assert bootstrap_interval(auc, probabilities, labels, groups=group, draws=100, generator=4) != first
    order = np.random.default_rng(1).permutation(len(labels))
    names = np.array([f"original/{g:03d}" for g in group], object)
    monkeypatch.setattr(intervals, "ELEMENTS", len(labels) // 2)
    assert bootstrap_interval(auc, probabilities, labels, groups=group, draws=100, generator=3) == first
    monkeypatch.setattr(intervals, "ELEMENTS", 7 * len(labels))
    given = {"draws": 100, "generator": np.random.default_rng(3)}
    again = bootstrap_interval(auc, torch.tensor(probabilities[order]), labels[order], groups=names[order], **given)
    assert again == first


def test_draws_without_a_class_are_left_out_and_one_group_has_no_interval():
    # One group holds the reals and one the fakes: every second draw lacks a class.
    result = bootstrap_interval(auc, [0.1, 0.2, 0.15, 0.3], [0, 0, 1, 1], groups=[0, 0, 1, 1])
    assert result[:3] == (0.75, 0.75, 0.75)
    one = paired_difference(auc, [0.1, 0.2, 0.8], [0.5] * 3, [0, 1, 1], ["a"] * 3, draws=20)
    assert one.value == 0.5 and np.isnan([one.low, one.high, one.p]).all() and one.groups == 1


def test_paired_difference():
    random = np.random.default_rng(0)
    values, group = random.normal(size=200), np.repeat(np.arange(20), 10)
    result = paired_difference(mean, values + 0.25, values, None, group, draws=99)
    assert result[:3] == pytest.approx((0.25, 0.25, 0.25), abs=1e-12) and result.p == 2 / 100, "the same draws"
    first, labels, group = clustered(random)
    second = (first + random.normal(0, 0.2, len(labels))).clip(0, 1)
    there, back = (paired_difference(auc, *s, labels, group, draws=60) for s in ((first, second), (second, first)))
    assert back[:3] == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12) and back.p == there.p
    assert there.value == pytest.approx(auc(first, labels) - auc(second, labels), abs=1e-12)


def test_seeds_against_scipy():
    values = [0.81, 0.84, 0.79, 0.83]
    for level in (0.5, 0.95):
        low, high = stats.t.interval(level, 3, np.mean(values), stats.sem(values))
        expected = (np.mean(values), np.std(values, ddof=1), low, high, 4)
        assert seed_interval(torch.tensor(values, dtype=torch.float64), level) == pytest.approx(expected, abs=1e-12)
    one = seed_interval([0.5])
    assert one.mean == 0.5 and one.seeds == 1 and np.isnan(one[1:4]).all()


def test_pseudo_values_against_scikit_learn_without_one_group():
    answers, labels, group = clustered(np.random.default_rng(0), groups=7)
    names = np.array(list("gfedcba"))[group]  # sorted, the groups are the other way round
    found = metrics.pseudo_values(auc, [answers, answers**2 + 0.001 * group], labels, names)
    whole = roc_auc_score(labels, answers)
    without = [roc_auc_score(labels[group != g], answers[group != g]) for g in reversed(range(7))]
    expected = np.array([7 * whole - 6 * each for each in without])
    assert found.shape == (2, 7) and found.mean(1)[0] == pytest.approx(whole)
    np.testing.assert_allclose(found[0] - found[0].mean(), expected - expected.mean(), atol=1e-12)


def test_two_ways_against_the_anova_by_hand():
    values = np.array([[1.0, 2.0, 6.0], [0.0, 3.0, 3.0]]) / 10
    found = metrics.two_way_interval(values)
    # Seeds .3 and .2 about .25; identities .05 .25 .45; what is left ±(0, .1, .1) less that: squares by hand.
    by_seed, by_person, both = 3 * 2 * 0.05**2, 2 * (0.2**2 + 0.2**2) / 2, 2 * (0.0**2 + 0.1**2 + 0.1**2) / 2
    extra = by_person - both
    error = math.sqrt((by_seed + extra) / 6)
    df = (1 + (by_seed + extra) ** 2 / (by_seed**2 / 1 + extra**2 / 2)) / 2
    assert (found.mean, found.std) == pytest.approx((0.25, error * math.sqrt(2)))
    assert found.high == pytest.approx(min(1, 0.25 + stats.t.ppf(0.975, df) * error))
    assert metrics.two_way_interval(values, within=(0, 0.4))[2:4] == (0, 0.4), "cut at the range of the measure"
    assert metrics.two_way_interval(np.full((3, 4), 0.5)) == (0.5, 0, 0.5, 0.5, 3)


@pytest.mark.parametrize(("n", "count", "seeds", "people"), [(3, 28, 2.0, 1.0), (3, 160, 0.3, 1.0), (8, 60, 0.0, 1.0)])
def test_two_ways_cover_the_truth(n, count, seeds, people):
    """Spread of the mean that comes from seeds and from identities. 100,000 trials of each give 93.6 to 96.1 %."""
    random, trials, covered, alone = np.random.default_rng(0), 1500, 0, 0
    for _ in range(trials):
        values = seeds * math.sqrt(n) * random.normal(size=(n, 1))
        values = values + math.sqrt(count) * (people * random.normal(size=count) + 0.5 * random.normal(size=(n, count)))
        found, by_seed = metrics.two_way_interval(values / 200), seed_interval(values.mean(1))
        covered += found.low <= 0 <= found.high
        alone += by_seed.low <= 0 <= by_seed.high
    assert 0.93 <= covered / trials <= 0.97
    assert people <= seeds or alone < 0.8 * trials, "intervals over the seeds alone miss the people"


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0.1, 5, 0), (0.1, 0.5, 0), (-0.9, 0.9, 2), (0, 0, 2), (-0.9, 1.0, 3), (-3, 2, 3), (math.nan, math.nan, 3)]
)  # fmt: skip
def test_one_rule_for_a_verdict(low, high, found):
    assert metrics.verdict(SimpleNamespace(low=low, high=high), 1.0) == metrics.VERDICTS[found]
    mirrored = SimpleNamespace(low=-high, high=-low)
    assert metrics.verdict(mirrored, 1.0) == metrics.VERDICTS[{0: 1}.get(found, found)], "of b minus a"


def test_errors():
    for call, arguments, message in (
        (seed_interval, ([1.0, 2.0], 95), "level is 95"),
        (seed_interval, ([1.0, math.nan],), "values are"),
        (paired_difference, (mean, [0.1, 0.9], [0.2, 0.1], None, [0, 1, 2]), r"groups are \(3,\) for 2 samples"),
        (metrics.two_way_interval, ([[1.0, 2.0]],), "two or more of each"),
        (metrics.two_way_interval, ([[3.0, 4.0], [4.0, 5.0]],), r"the mean is 4, outside \(-1.0, 1.0\); give within="),
        (metrics.bootstrap_interval, (mean, [0.1]), "level is 95"),
    ):
        with pytest.raises(ValueError, match=message):
            call(*arguments, **({"groups": [0], "level": 95} if call is metrics.bootstrap_interval else {}))
