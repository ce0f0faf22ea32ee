import numpy as np
import pytest

from irl.reporting.statistics import RESAMPLES, edge_interval, holm, interval, paired_test, resampled_sums


def test_bootstrap_interval_covers():
    """Of 200 experiments whose true rate is 0.1, the 95 % interval holds it in 90-99 %."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        reference = rng.integers(5, 40, 60)
        low, high = interval(reference, rng.binomial(reference, 0.1))
        held += low <= 0.1 <= high
    assert 180 <= held <= 198


def test_holm_corrects_for_the_number_of_comparisons():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2] and holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_seldom_finds_what_is_not_there():
    """Of 400 families of ten true hypotheses, about 5 % have any p below 0.05 after the correction."""
    rng = np.random.default_rng(0)
    found = sum(min(holm(list(rng.random(10)))) < 0.05 for _ in range(400))
    assert 8 <= found <= 32


def test_sums_are_of_as_many_examples_drawn_with_replacement():
    """Against a plain loop over indices, in distribution: the mean and the variance of a sum of draws."""
    values = np.random.default_rng(1).random(40)
    sums = resampled_sums(np.stack([values, np.ones(40)], axis=1))
    assert sums.shape == (RESAMPLES, 2) and (sums[:, 1] == 40).all()
    assert len(np.unique(sums[:, 0])) > 0.9 * RESAMPLES
    rng = np.random.default_rng(2)
    plain = np.array([sum(values[i] for i in rng.integers(40, size=40)) for _ in range(4000)])
    error = plain.std() / np.sqrt(4000)
    assert abs(sums[:, 0].mean() - plain.mean()) < 5 * error
    assert sums[:, 0].std() == pytest.approx(plain.std(), rel=0.08)


def test_the_least_p_is_low_enough_for_the_correction_of_a_hundred_comparisons():
    zeros, ones = np.zeros(RESAMPLES), np.ones(RESAMPLES)
    assert 100 * paired_test(ones, zeros, 1.0)["p"] < 0.05


def test_paired_test():
    rng = np.random.default_rng(0)
    base = rng.binomial(30, 0.2, 100).astype(float)
    better, same = base - (rng.random(100) < 0.5) * (base > 0), rng.permutation(base)
    sums = resampled_sums(np.stack([base, better, same, np.full(100, 30.0)], axis=1))
    rates = dict(zip(("base", "better", "same"), (sums[:, :3] / sums[:, 3:]).T))
    found = paired_test(rates["better"], rates["base"], (better - base).sum() / 3000)
    assert found["high"] < 0 and found["p"] < 0.002
    none = paired_test(rates["same"], rates["base"], 0.0)
    assert none["low"] < 0 < none["high"] and none["p"] > 0.05


def test_a_difference_that_is_rounding_is_none():
    rates = np.random.default_rng(0).random(2000)
    found = paired_test(rates, rates * (1 + 1e-15), 0.0)
    assert found["p"] == 1 and found["low"] == found["high"] == 0


@pytest.mark.parametrize("count", [2, 12, 400])
def test_intervals_at_the_edges_are_exact(count):
    """Of Clopper and Pearson: the bound under which the observed count has probability 0.025."""
    reference = np.full(count, 15.0)
    low, high = interval(reference, np.zeros(count))
    assert low == 0 and (1 - high) ** count == pytest.approx(0.025)
    assert interval(reference, reference) == pytest.approx((1 - high, 1))
    errors = np.zeros(count)
    errors[0] = 1
    assert edge_interval([errors], [reference]) is None
    # Examples that were not tested do not count.
    assert edge_interval([np.append(reference, 0)], [np.append(reference, 0)]) == pytest.approx((1 - high, 1))


def test_a_single_example_has_no_interval():
    assert interval([30], [3]) is None
