import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from addlib.metrics import (
    VERDICTS,
    accuracy,
    auc,
    bootstrap_interval,
    intervals,
    lies,
    mean,
    paired_difference,
    power,
    pseudo_values,
    seed_interval,
    two_way_interval,
    verdict,
)  # fmt: skip


def clustered(random, groups=30, each=8, spread=1.0, shift=1.0):
    """Probabilities, labels, groups: half of each group fake; a group's fakes are all easy, or all hard."""
    labels = np.tile(np.arange(each) % 2, groups)
    group = np.repeat(np.arange(groups), each)
    ease = random.normal(0, spread, groups)[group]
    logits = (2 * labels - 1) * (shift + ease) + random.normal(0, 0.5, len(labels))
    return 1 / (1 + np.exp(-logits)), labels, group


def test_against_a_plain_loop():
    probabilities, labels, group = clustered(np.random.default_rng(0), groups=6)
    random, values = np.random.default_rng(5), []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(group == g) for g in random.integers(6, size=6)])
        values.append(roc_auc_score(labels[rows], probabilities[rows]))
    result = bootstrap_interval(auc, probabilities, labels, groups=group, level=0.9, draws=200, generator=5)
    expected = (roc_auc_score(labels, probabilities), *np.quantile(values, [0.05, 0.95]))
    assert result[:3] == pytest.approx(expected, abs=1e-12) and result[3:7] == (0.9, 200, 0, 6)
    assert math.isnan(result.p)


def test_seed_decides_and_order_names_and_blocks_do_not(monkeypatch):
    probabilities, labels, group = clustered(np.random.default_rng(0))
    first = bootstrap_interval(auc, probabilities, labels, groups=group, draws=100, generator=3)[:7]
    given = {"groups": group, "draws": 100}
    assert bootstrap_interval(auc, probabilities, labels, **given, generator=np.random.default_rng(3))[:7] == first
    assert bootstrap_interval(auc, probabilities, labels, **given, generator=4)[:7] != first
    order = np.random.default_rng(1).permutation(len(labels))
    names = np.array([f"original/{g:03d}" for g in group], object)
    monkeypatch.setattr(intervals, "ELEMENTS", 7 * len(labels))
    given = {"groups": names[order], "draws": 100, "generator": 3}
    assert bootstrap_interval(auc, probabilities[order], labels[order], **given)[:7] == first
    given["groups"] = torch.tensor(group)
    assert bootstrap_interval(auc, torch.tensor(probabilities), torch.tensor(labels), **given)[:7] == first


def test_undefined_draws_are_counted_and_left_out():
    # One group holds the reals and one the fakes: every second draw lacks a class.
    result = bootstrap_interval(auc, [0.1, 0.2, 0.15, 0.3], [0, 0, 1, 1], groups=[0, 0, 1, 1], draws=2000)
    assert result[:3] == (0.75, 0.75, 0.75) and result.undefined == pytest.approx(1000, abs=100)
    none = bootstrap_interval(auc, [0.1, 0.2], [1, 1], groups=[0, 1], draws=20)
    assert none.undefined == 20 and all(math.isnan(x) for x in none[:3])
    one = paired_difference(auc, [0.1, 0.2, 0.8], [0.5] * 3, [0, 1, 1], ["a"] * 3, draws=20)
    assert one.value == 0.5 and math.isnan(one.low) and math.isnan(one.p) and one.groups == 1


def test_coverage_by_groups_and_by_frames():
    random = np.random.default_rng(0)
    truth = accuracy(*clustered(random, groups=20_000)[:2])
    covered = {"groups": 0, "frames": 0}
    for trial in range(200):
        probabilities, labels, group = clustered(random, groups=40)
        for kind, units in (("groups", group), ("frames", np.arange(len(labels)))):
            found = bootstrap_interval(accuracy, probabilities, labels, groups=units, draws=200, generator=trial)
            covered[kind] += found.low <= truth <= found.high
    assert 0.88 <= covered["groups"] / 200 <= 0.99 and covered["frames"] / 200 < 0.75


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
    equal = paired_difference(auc, first, first.copy(), labels, group, draws=50)
    assert equal[:3] == (0, 0, 0) and equal.p == 1


def test_p_and_interval_agree_and_reject_seldom():
    random, agreed, rejected = np.random.default_rng(1), 0, 0
    for trial in range(150):
        noise = np.repeat(random.normal(size=40), 5) + random.normal(size=200)
        groups = np.repeat(np.arange(40), 5)
        result = paired_difference(mean, noise, np.zeros(200), None, groups, draws=199, generator=trial)
        rejected += result.p <= 0.05
        agreed += (result.p <= 0.05) == (not result.low <= 0 <= result.high)
    assert 0.01 <= rejected / 150 <= 0.12 and agreed >= 145


def test_seeds_against_scipy():
    values = [0.81, 0.84, 0.79, 0.83]
    for level in (0.5, 0.95):
        result = seed_interval(values, level)
        low, high = stats.t.interval(level, 3, np.mean(values), stats.sem(values))
        assert result == pytest.approx((np.mean(values), np.std(values, ddof=1), low, high, level, 4), abs=1e-12)
    assert seed_interval(torch.tensor(values, dtype=torch.float64)) == seed_interval(np.array(values))
    one = seed_interval([0.5])
    assert one.mean == 0.5 and one.seeds == 1 and all(math.isnan(x) for x in one[1:4])


def test_pseudo_values_against_scikit_learn_without_one_group():
    answers, labels, group = clustered(np.random.default_rng(0), groups=7)
    names = np.array(list("gfedcba"))[group]  # sorted, the groups are the other way round
    found = pseudo_values(auc, [answers, answers**2 + 0.001 * group], labels, names)
    whole = roc_auc_score(labels, answers)
    without = [roc_auc_score(labels[group != g], answers[group != g]) for g in reversed(range(7))]
    expected = np.array([7 * whole - 6 * each for each in without])
    assert found.shape == (2, 7) and found.mean(1)[0] == pytest.approx(whole)
    np.testing.assert_allclose(found[0] - found[0].mean(), expected - expected.mean(), atol=1e-12)


def test_two_ways_against_the_anova_by_hand():
    values = np.array([[1.0, 2.0, 6.0], [0.0, 3.0, 3.0]]) / 10
    found = two_way_interval(values)
    # Seeds .3 and .2 about .25; identities .05 .25 .45; what is left ±(0, .1, .1) less that: squares by hand.
    by_seed, by_person, both = 3 * 2 * 0.05**2, 2 * (0.2**2 + 0.2**2) / 2, 2 * (0.0**2 + 0.1**2 + 0.1**2) / 2
    left = values - values.mean(1)[:, None] - values.mean(0) + values.mean()
    assert (left**2).sum() / 2 == pytest.approx(both)
    extra = by_person - both
    error = math.sqrt((by_seed + extra) / 6)
    df = (1 + (by_seed + extra) ** 2 / (by_seed**2 / 1 + extra**2 / 2)) / 2
    assert (found.mean, found.error, found.df) == pytest.approx((0.25, error, df))
    assert found.high == pytest.approx(min(1, 0.25 + stats.t.ppf(0.975, df) * error))
    assert two_way_interval(values, within=(0, 0.4))[1:3] == (0, 0.4), "cut at the range of the measure"
    same = two_way_interval(np.full((3, 4), 0.5))
    assert same[:4] == (0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("n", "count", "seeds", "people"), [(3, 28, 2.0, 1.0), (3, 160, 0.3, 1.0), (5, 28, 1.0, 1.0), (8, 60, 0.0, 1.0)]
)
def test_two_ways_cover_the_truth(n, count, seeds, people):
    """Spread of the mean that comes from seeds and from identities. 100,000 trials of each give 93.6 to 96.1 %."""
    random, trials = np.random.default_rng(0), 1500
    covered, alone = 0, 0
    for _ in range(trials):
        values = seeds * math.sqrt(n) * random.normal(size=(n, 1)) + math.sqrt(count) * people * random.normal(
            size=count
        )
        values = (values + 0.5 * math.sqrt(count) * random.normal(size=(n, count))) / 200
        found = two_way_interval(values)
        covered += found.low <= 0 <= found.high
        by_seed = seed_interval(values.mean(1))
        alone += by_seed.low <= 0 <= by_seed.high
    assert 0.93 <= covered / trials <= 0.97
    assert people <= seeds or alone < 0.8 * trials, "intervals over the seeds alone miss the people"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0.1, 5, 0), (0.1, 0.5, 0), (-5, -0.1, 1), (-0.9, 0.9, 2), (0, 0, 2), (-0.9, 1.0, 3), (-3, 2, 3), (math.nan, math.nan, 3)],
)  # fmt: skip
def test_one_rule_for_a_verdict(low, high, found):
    interval = SimpleNamespace(low=low, high=high)
    assert verdict(interval, 1.0) == VERDICTS[found]
    mirrored = {0: 1, 1: 0}.get(found, found)
    assert verdict(SimpleNamespace(low=-high, high=-low), 1.0) == VERDICTS[mirrored], "of b minus a"


def test_where_an_interval_lies():
    for low, high, found in ((1.2, 1.8, "inside"), (0.2, 1.8, "not known"), (2.5, 3, "outside"), (-3, 0.5, "outside")):
        assert lies(SimpleNamespace(low=low, high=high), 1, 2) == found


def test_power_by_simulation():
    random = np.random.default_rng(0)
    for difference, n in ((0.0, 3), (2.0, 3), (2.0, 8)):
        samples = random.normal(difference, 1.5, (20_000, n))
        error = samples.std(1, ddof=1) / math.sqrt(n)
        seen = np.abs(samples.mean(1)) > stats.t.ppf(0.975, n - 1) * error
        assert power(difference, 1.5, n) == pytest.approx(seen.mean(), abs=0.01)


def test_errors():
    sample, groups = ([0.1, 0.9], [0, 1]), [0, 1]
    for level in (0, 1, 95, float("nan")):
        for function in (
            lambda **o: bootstrap_interval(auc, *sample, groups=groups, **o),
            lambda **o: seed_interval([1.0, 2.0], **o),
        ):
            with pytest.raises(ValueError, match="level is"):
                function(level=level)
    for draws in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="draws is"):
            bootstrap_interval(auc, *sample, groups=groups, draws=draws)
    with pytest.raises(ValueError, match=r"groups are \(3,\) for 2 samples"):
        bootstrap_interval(auc, *sample, groups=[0, 1, 2])
    for arrays in (([0.1, 0.9], [0, 1, 1]), ([],), ()):
        with pytest.raises(ValueError, match=r"arrays are \[.*N > 0"):
            bootstrap_interval(auc, *arrays, groups=groups)
    for values in ([], [[1.0]], [1.0, float("nan")], ["a"], [float("inf")]):
        with pytest.raises(ValueError, match="values are"):
            seed_interval(values)
    for values in ([[1.0, 2.0]], [[1.0], [2.0]], [[1.0, math.nan], [1.0, 1.0]], [1.0, 2.0]):
        with pytest.raises(ValueError, match="two or more of each"):
            two_way_interval(values)
