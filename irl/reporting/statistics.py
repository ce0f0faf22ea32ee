"""Bootstrap intervals and paired tests."""

from __future__ import annotations

from typing import Sequence

import numpy as np

RESAMPLES = 2000


def bootstrap(count: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each of `count` examples is drawn in each resample, (resamples, count)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def resampled_ratios(weights: np.ndarray, errors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """sum(errors) / sum(reference) of every resample, (resamples,). weights: of `bootstrap`; others: (N,)."""
    ratios: np.ndarray = (weights @ errors) / (weights @ reference)
    return ratios


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The bounds of the 95 % percentile interval of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def interval(reference: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of sum(errors) / sum(reference) over examples (Bisani and Ney 2004)."""
    weights = bootstrap(len(reference))
    return percentiles(resampled_ratios(weights, np.asarray(errors, float), np.asarray(reference, float)))


def paired_test(rates_a: np.ndarray, rates_b: np.ndarray, observed: float) -> dict[str, float]:
    """Difference a - b with its paired bootstrap interval and two-sided p-value.

    rates_a, rates_b: rates under the same resamples; observed: the difference of the rates themselves. p is twice the
    share of resamples on the other side of zero, at least 2 / (resamples + 1).
    """
    difference = rates_a - rates_b
    low, high = percentiles(difference)
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (len(difference) + 1))
    return {"difference": observed, "low": low, "high": high, "p": float(p)}
