"""Signal-to-noise ratios of mixtures: ratios of mean powers, the clean signal at unit gain."""

from __future__ import annotations

from typing import NamedTuple, Sequence

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
