import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from addlib.metrics import accuracy, auc, bootstrap_interval, eer, mean, paired_difference, seed_interval
from addlib.metrics import intervals as module


def clustered(random, groups=30, each=8, spread=1.0, shift=1.0):
    """Probabilities, labels, groups: half of each group fake; a group's fakes are all easy, or all hard."""
    labels = np.tile(np.arange(each) % 2, groups)
    group = np.repeat(np.arange(groups), each)
    ease = random.normal(0, spread, groups)[group]
    logits = (2 * labels - 1) * (shift + ease) + random.normal(0, 0.5, len(labels))
    return 1 / (1 + np.exp(-logits)), labels, group


@pytest.mark.parametrize("metric", [accuracy, auc, eer])
def test_weights_and_repeated_samples_give_the_same_draws(metric):
    sample = clustered(np.random.default_rng(0))
    fast = bootstrap_interval(metric, *sample[:2], groups=sample[2], draws=50, generator=1)
    slow = bootstrap_interval(lambda p, y: metric(p, y), *sample[:2], groups=sample[2], draws=50, generator=1)
    assert fast == pytest.approx(slow, abs=1e-12)
    assert fast.low <= fast.value <= fast.high and fast.low < fast.high
    assert fast[3:] == (0.95, 50, 0, 30)


def test_against_a_plain_loop():
    probabilities, labels, group = clustered(np.random.default_rng(0), groups=6)
    random, values = np.random.default_rng(5), []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(group == g) for g in random.integers(6, size=6)])
        values.append(roc_auc_score(labels[rows], probabilities[rows]))
    result = bootstrap_interval(auc, probabilities, labels, groups=group, level=0.9, draws=200, generator=5)
    assert result[:3] == pytest.approx(
        (roc_auc_score(labels, probabilities), *np.quantile(values, [0.05, 0.95])), abs=1e-12
    )


def test_seed_decides():
    *sample, group = clustered(np.random.default_rng(0))
    first = bootstrap_interval(auc, *sample, groups=group, draws=100, generator=3)
    assert bootstrap_interval(auc, *sample, groups=group, draws=100, generator=3) == first
    assert bootstrap_interval(auc, *sample, groups=group, draws=100, generator=np.random.default_rng(3)) == first
    assert bootstrap_interval(auc, *sample, groups=group, draws=100, generator=4) != first
    state = torch.get_rng_state()
    bootstrap_interval(auc, *sample, groups=group, draws=10)
    assert torch.get_rng_state().equal(state)


def test_order_of_samples_names_of_groups_and_blocks_do_not_matter(monkeypatch):
    probabilities, labels, group = clustered(np.random.default_rng(0))
    first = bootstrap_interval(auc, probabilities, labels, groups=group, draws=100)
    order = np.random.default_rng(1).permutation(len(labels))
    names = np.array([f"original/{g:03d}" for g in group], object)
    monkeypatch.setattr(module, "ELEMENTS", 7 * len(labels))
    assert bootstrap_interval(auc, probabilities[order], labels[order], groups=names[order], draws=100) == first
    tensors = torch.tensor(probabilities), torch.tensor(labels), torch.tensor(group)
    assert bootstrap_interval(auc, *tensors[:2], groups=tensors[2], draws=100) == first
    slow = bootstrap_interval(
        lambda p, y: roc_auc_score(y.numpy(), p.numpy()), *tensors[:2], groups=tensors[2], draws=100
    )
    assert slow == pytest.approx(first, abs=1e-12)


def test_two_groups_have_three_draws():
    # Means of (0, 0), (0, 1) and (1, 1): a quarter, a half and a quarter of the draws.
    hits, groups, draws = [0, 0, 1, 1], ["a", "a", "b", "b"], 4000
    bounds = {level: bootstrap_interval(mean, hits, groups=groups, level=level, draws=draws) for level in (0.4, 0.6)}
    assert bounds[0.4][:3] == (0.5, 0.5, 0.5) and bounds[0.6][:3] == (0.5, 0, 1)


def test_undefined_draws_are_counted_and_left_out():
    # One group holds the reals and one the fakes: every second draw lacks a class.
    sample = [0.1, 0.2, 0.15, 0.3], [0, 0, 1, 1]
    result = bootstrap_interval(auc, *sample, groups=[0, 0, 1, 1], draws=2000)
    assert result[:3] == (0.75, 0.75, 0.75)
    assert result.undefined == pytest.approx(1000, abs=100) and result.draws == 2000
    none = bootstrap_interval(auc, [0.1, 0.2], [1, 1], groups=[0, 1], draws=20)
    assert none.undefined == 20 and all(math.isnan(x) for x in none[:3])


def test_one_group_has_no_interval():
    sample = [0.1, 0.2, 0.8], [0, 1, 1]
    result = bootstrap_interval(auc, *sample, groups=["a"] * 3, draws=20)
    assert result.value == 1 and math.isnan(result.low) and math.isnan(result.high) and result.groups == 1
    difference = paired_difference(auc, sample[0], [0.5] * 3, sample[1], ["a"] * 3, draws=20)
    assert difference.value == 0.5 and math.isnan(difference.low) and math.isnan(difference.p)


def test_width_is_that_of_the_group_means():
    random = np.random.default_rng(0)
    means = random.normal(0, 1, 100)
    values = np.repeat(means, 5)
    result = bootstrap_interval(mean, values, groups=np.repeat(np.arange(100), 5), draws=4000)
    half = 1.96 * means.std() / 10
    assert (result.low, result.high) == pytest.approx((means.mean() - half, means.mean() + half), abs=0.03)


def test_coverage_by_groups_and_by_frames():
    random = np.random.default_rng(0)
    truth = accuracy(*clustered(random, groups=200_00)[:2])
    covered = {"groups": 0, "frames": 0}
    for trial in range(200):
        probabilities, labels, group = clustered(random, groups=40)
        for kind, units in (("groups", group), ("frames", np.arange(len(labels)))):
            found = bootstrap_interval(accuracy, probabilities, labels, groups=units, draws=200, generator=trial)
            covered[kind] += found.low <= truth <= found.high
    assert 0.88 <= covered["groups"] / 200 <= 0.99
    assert covered["frames"] / 200 < 0.75


def test_paired_difference_of_equal_models():
    probabilities, labels, group = clustered(np.random.default_rng(0))
    result = paired_difference(auc, probabilities, probabilities.copy(), labels, group, draws=50)
    assert result == (0, 0, 0, 1, 0.95, 50, 0, 30)


def test_both_models_see_the_same_draws():
    random = np.random.default_rng(0)
    values, group = random.normal(size=200), np.repeat(np.arange(20), 10)
    result = paired_difference(mean, values + 0.25, values, None, group, draws=99)
    assert result[:3] == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)
    assert result.p == 2 / 100
    swapped = paired_difference(mean, values, values + 0.25, None, group, draws=99)
    assert swapped[:4] == pytest.approx((-0.25, -0.25, -0.25, 0.02), abs=1e-12)


@pytest.mark.parametrize("metric", [accuracy, auc, lambda p, y: roc_auc_score(y, p)])
def test_swapping_models_turns_the_sign(metric):
    random = np.random.default_rng(0)
    first, labels, group = clustered(random)
    second = (first + random.normal(0, 0.2, len(labels))).clip(0, 1)
    there = paired_difference(metric, first, second, labels, group, draws=60)
    back = paired_difference(metric, second, first, labels, group, draws=60)
    assert back[:3] == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12) and back.p == there.p
    assert there.value == pytest.approx(metric(first, labels) - metric(second, labels), abs=1e-12)


def test_p_and_interval_agree():
    random, agreed = np.random.default_rng(0), 0
    for trial in range(60):
        first, labels, group = clustered(random, groups=20)
        second = (first + random.normal(0.01, 0.1, len(labels))).clip(0, 1)
        result = paired_difference(accuracy, first, second, labels, group, draws=199, generator=trial)
        agreed += (result.p <= 0.05) == (not result.low <= 0 <= result.high)
    assert agreed >= 57


def test_rejections_without_a_difference():
    random, rejected = np.random.default_rng(1), 0
    for trial in range(200):
        noise = np.repeat(random.normal(size=40), 5) + random.normal(size=200)
        result = paired_difference(
            mean, noise, np.zeros(200), None, np.repeat(np.arange(40), 5), draws=200, generator=trial
        )
        rejected += result.p <= 0.05
    assert 0.01 <= rejected / 200 <= 0.12


def test_undefined_draws_of_a_pair():
    result = paired_difference(auc, [0.1, 0.2, 0.9, 0.3], [0.5] * 4, [0, 0, 1, 1], [0, 0, 1, 1], draws=400)
    assert result[:3] == (0.5, 0.5, 0.5) and 140 <= result.undefined <= 260
    assert result.p == 2 / (401 - result.undefined)


def test_seeds_against_scipy():
    values = [0.81, 0.84, 0.79, 0.83]
    for level in (0.5, 0.95):
        result = seed_interval(values, level)
        low, high = stats.t.interval(level, 3, np.mean(values), stats.sem(values))
        assert result == pytest.approx((np.mean(values), np.std(values, ddof=1), low, high, level, 4), abs=1e-12)
    assert seed_interval(torch.tensor(values, dtype=torch.float64)) == seed_interval(np.array(values))


def test_few_seeds():
    one = seed_interval([0.5])
    assert one.mean == 0.5 and one.seeds == 1 and all(math.isnan(x) for x in one[1:4])
    assert seed_interval([0.5, 0.5, 0.5])[:4] == (0.5, 0, 0.5, 0.5)


def test_errors():
    sample, groups = ([0.1, 0.9], [0, 1]), [0, 1]
    for level in (0, 1, 95, float("nan")):
        with pytest.raises(ValueError, match="level is"):
            bootstrap_interval(auc, *sample, groups=groups, level=level)
        with pytest.raises(ValueError, match="level is"):
            seed_interval([1.0, 2.0], level)
    for draws in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="draws is"):
            bootstrap_interval(auc, *sample, groups=groups, draws=draws)
    with pytest.raises(ValueError, match=r"groups are \(3,\) for 2 samples"):
        bootstrap_interval(auc, *sample, groups=[0, 1, 2])
    with pytest.raises(ValueError, match=r"arrays are \[\(2,\), \(3,\)\]"):
        bootstrap_interval(auc, [0.1, 0.9], [0, 1, 1], groups=groups)
    with pytest.raises(ValueError, match="N > 0"):
        bootstrap_interval(mean, [], groups=[])
    with pytest.raises(ValueError, match="no arrays"):
        bootstrap_interval(mean, groups=groups)
    with pytest.raises(ValueError, match=r"arrays are \[\(2,\), \(3,\), \(2,\)\]"):
        paired_difference(auc, sample[0], [0.1] * 3, sample[1], groups)
    with pytest.raises(ValueError, match="NaN"):
        bootstrap_interval(auc, [0.1, float("nan")], [0, 1], groups=groups)
    for values in ([], [[1.0]], [1.0, float("nan")], ["a"], [float("inf")]):
        with pytest.raises(ValueError, match="values are"):
            seed_interval(values)
