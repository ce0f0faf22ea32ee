import numpy as np

from irl.reporting.statistics import bootstrap, interval, paired_test


def test_bootstrap_interval_covers():
    """Of 200 experiments whose true rate is 0.1, the 95 % interval holds it in 90-99 %."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        reference = rng.integers(5, 40, 60)
        low, high = interval(reference, rng.binomial(reference, 0.1))
        held += low <= 0.1 <= high
    assert 180 <= held <= 198


def test_paired_test():
    rng = np.random.default_rng(0)
    weights = bootstrap(100)
    base = rng.binomial(30, 0.2, 100).astype(float)
    better, same = base - (rng.random(100) < 0.5) * (base > 0), rng.permutation(base)
    reference = weights @ np.full(100, 30.0)
    rates = {k: (weights @ v) / reference for k, v in (("base", base), ("better", better), ("same", same))}
    found = paired_test(rates["better"], rates["base"], (better - base).sum() / 3000)
    assert found["high"] < 0 and found["p"] < 0.002
    none = paired_test(rates["same"], rates["base"], 0.0)
    assert none["low"] < 0 < none["high"] and none["p"] > 0.05
