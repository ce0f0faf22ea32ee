"""Signal-to-noise ratios of mixtures: ratios of mean powers, the clean signal at unit gain."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.rng import Keys

# SNRs in dB of Kaldi's augmentation with MUSAN (egs/voxceleb/v2, egs/sre16): one is drawn with equal probability.
SNRS: dict[str, tuple[float, ...]] = {
    "noise": (15.0, 10.0, 5.0, 0.0),
    "music": (15.0, 10.0, 8.0, 5.0),
    "babble": (20.0, 17.0, 15.0, 13.0),
}


class Between(NamedTuple):
    """SNRs in dB drawn uniformly from [low, high)."""

    low: float
    high: float


Snrs = tuple[float, ...] | Between  # a tuple: one of its values, with equal probability


def as_snrs(snrs: Any) -> Snrs:
    """Checked: a number of dB, several, or Between. Raises ValueError for others, and for none."""
    if isinstance(snrs, Between) and snrs.low > snrs.high:
        raise ValueError(f"snrs: expected low <= high, found {snrs}")
    values = (snrs,) if isinstance(snrs, Real) else snrs
    sequence = isinstance(values, (tuple, list)) and len(values) > 0
    if not sequence or not all(isinstance(v, Real) and math.isfinite(v) for v in values):
        raise ValueError(f"snrs: expected dB, a number or several or Between(low, high), found {snrs!r}")
    return values if isinstance(values, Between) else tuple(map(float, values))


def draw_snrs(keys: Keys, choices: Sequence[Snrs]) -> Tensor:
    """An SNR in dB for each of N rows out of its own choices, (N,)."""
    bits = keys.sub("snr").bits(1)[:, 0].tolist()
    return torch.tensor(
        [
            c.low + (c.high - c.low) * (word / 2**32) if isinstance(c, Between) else c[word * len(c) >> 32]
            for c, word in zip(choices, bits)
        ]
    )


def add_at_snr(x: np.ndarray, noise: np.ndarray, snr: float, out: np.ndarray | None = None) -> np.ndarray:
    """x + g * noise, (T,) each, where 10 log10(mean x^2 / mean (g noise)^2) = snr. Silence on either side: x.

    out: where to write the result, as in numpy; a new array if None.
    """
    power_x, power_n = float(np.dot(x, x)), float(np.dot(noise, noise))
    gain = np.sqrt(power_x / power_n) * 10 ** (-snr / 20) if power_x > 0 and power_n > 0 else 0.0
    out = np.multiply(noise, np.float32(gain), out=out)
    return np.add(x, out, out=out)
