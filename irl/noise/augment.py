"""Augmentation that is no noise: drawn once for an example and epoch and shared by all of its views.

The clean view is augmented too, so views stay pairs of the same utterance that differ by their noise alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from irl.noise.bank import resample
from irl.random import Keys


@dataclass(frozen=True)
class AugmentConfig:
    """Of training, in the clean phase as well; never of dev or test.

    speeds: of which one is drawn, such as Kaldi's [0.9, 1.0, 1.1]. specaugment: masks of `irl.noise.masks`, at the same
    place in every view.
    """

    speeds: tuple[float, ...] = (1.0,)
    specaugment: bool = False

    def __post_init__(self) -> None:
        if not self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise ValueError(f"speeds must be a list of factors in [0.5, 2], got {list(self.speeds)}")


def change_speeds(waves: list[np.ndarray], speeds: tuple[float, ...], keys: Keys) -> list[np.ndarray]:
    """Each wave (n,) resampled to n / speed samples, one of the speeds drawn for it (Ko et al. 2015): at the old rate
    tempo and pitch both change by that factor."""
    if speeds == (1.0,):
        return waves
    chosen = keys.integers(1, len(speeds))[:, 0].tolist()
    factors = [Fraction(speeds[i]).limit_denominator(100) for i in chosen]
    return [x if f == 1 else resample(x, f.numerator, f.denominator) for x, f in zip(waves, factors)]
