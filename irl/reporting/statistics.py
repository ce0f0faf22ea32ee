"""Bootstrap intervals and paired tests."""

from __future__ import annotations

from typing import Hashable, Mapping, Sequence, TypeVar

import numpy as np

# The least p is 2 / (RESAMPLES + 1), low enough for Holm's correction of a hundred comparisons.
RESAMPLES = 10_000
# Resamples drawn at a time, a divisor of RESAMPLES, so that never all counts are in memory.
BLOCK = 500
Key = TypeVar("Key", bound=Hashable)


def resampled_sums(values: np.ndarray) -> np.ndarray:
    """The sums over N examples, drawn N times with replacement, of values (N, K), in each resample: (RESAMPLES, K)."""
    rng, count = np.random.default_rng(0), len(values)
    share = np.full(count, 1 / count)
    draws = (rng.multinomial(count, share, size=BLOCK) for _ in range(RESAMPLES // BLOCK))
    return np.concatenate([drawn.astype(np.float64) @ values for drawn in draws])


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The bounds of the 95 % percentile interval of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def interval(reference: Sequence[float], errors: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of sum(errors) / sum(reference) over examples (Bisani and Ney 2004); None
    for a single example, of which every resample is the same."""
    if len(reference) < 2:
        return None
    made, total = np.asarray(errors, float), np.asarray(reference, float)
    edge = edge_interval([made], [total])
    if edge:
        return edge
    sums = resampled_sums(np.stack([made, total], axis=1))
    return percentiles(sums[:, 0] / sums[:, 1])


def edge_interval(errors: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The 95 % interval of Clopper and Pearson (1934) where no example has an error, or where each has as many as it
    can: then all resamples are equal. None elsewhere. errors, reference: (N,) by condition."""
    pairs = [(e[r > 0], r[r > 0]) for e, r in zip(errors, reference)]
    count = max(len(r) for _, r in pairs)
    beyond = 0.025 ** (1 / max(1, count))
    if all((e == 0).all() for e, _ in pairs):
        return 0.0, 1 - beyond
    if all((e == r).all() for e, r in pairs):
        return beyond, 1.0
    return None


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number by the step-down method of Holm (1979), in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def holding(tests: Mapping[Key, Mapping[str, float]]) -> tuple[set[Key], int]:
    """The tests whose p is below 0.05 after Holm's correction, and the number of those that have a p."""
    claims = {key: test["p"] for key, test in tests.items() if "p" in test}
    return {key for key, p in zip(claims, holm(list(claims.values()))) if p < 0.05}, len(claims)


def paired_test(rates_a: np.ndarray, rates_b: np.ndarray, observed: float) -> dict[str, float]:
    """Difference a - b with its paired bootstrap interval and two-sided p-value.

    rates_a, rates_b: rates under the same resamples; observed: the difference of the rates themselves. p is twice the
    share of resamples on the other side of zero, at least 2 / (resamples + 1). Differences are zero
    where all of them are mere rounding.
    """
    difference = rates_a - rates_b
    if np.allclose(rates_a, rates_b, rtol=1e-9, atol=0):
        difference = np.zeros_like(difference)
    low, high = percentiles(difference)
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (len(difference) + 1))
    return {"difference": observed, "low": low, "high": high, "p": float(p)}
