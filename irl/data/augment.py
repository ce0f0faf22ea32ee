"""Augmentation that is no noise: drawn once for an example and epoch and shared by all of its views.

The clean view is augmented too, so views stay pairs of the same utterance that differ by their noise alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from irl.core.rng import Keys
from irl.core.types import Checked, NonEmpty, Positive, within
from irl.data.audio import resample


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Augmentation of the training set, in the clean phase too. Dev and test sets are never augmented.

    speeds: one is drawn, such as Kaldi's [0.9, 1.0, 1.1]. gains: a factor is drawn uniformly between the two, such as
    Kaldi's [0.125, 2] (utils/data/perturb_data_dir_volume.sh); nothing clips. warps: a factor is drawn uniformly
    between the two, such as [0.9, 1.1], by which the frequencies of the voice seem to rise, as of a vocal tract that
    is shorter by it: the mel filters are warped (VTLP, Jaitly and Hinton 2013). specaugment: masks
    of `irl.noise.spec_augment`, at the same place in every view.
    """

    speeds: Annotated[tuple[Annotated[float, within(0.5, 2)], ...], NonEmpty] = (1.0,)
    gains: tuple[Positive, ...] = (1.0, 1.0)
    warps: tuple[Annotated[float, within(0.5, 2)], ...] = (1.0, 1.0)
    specaugment: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, factors in (("gains", self.gains), ("warps", self.warps)):
            if len(factors) != 2 or factors[0] > factors[1]:
                raise ValueError(f"{name}: expected [low, high], got {list(factors)}")


def change_speeds(waves: list[np.ndarray], speeds: tuple[float, ...], keys: Keys) -> list[np.ndarray]:
    """Each wave (n,) resampled to n / speed samples, one of the speeds drawn for it (Ko et al. 2015): at the old rate
    tempo and pitch both change by that factor."""
    if speeds == (1.0,):
        return waves
    chosen = keys.integers(1, len(speeds))[:, 0].tolist()
    factors = [Fraction(speeds[i]).limit_denominator(100) for i in chosen]
    return [x if f == 1 else resample(x, f.numerator, f.denominator) for x, f in zip(waves, factors)]


def change_gains(waves: Tensor, gains: tuple[float, ...], keys: Keys) -> Tensor:
    """Each row of (N, T) times a factor of its own, drawn uniformly from [low, high]."""
    return waves if gains == (1.0, 1.0) else waves * keys.uniform(1, *gains).to(waves.dtype)


def draw_warps(warps: tuple[float, ...], keys: Keys) -> list[float]:
    """A factor for each example, drawn uniformly from [low, high]; none for [1, 1]."""
    return [] if warps == (1.0, 1.0) else keys.uniform(1, *warps)[:, 0].tolist()


@dataclass(frozen=True)
class Crops:
    """Random crops of the image padded by reflection, and horizontal flips: augmentation that is no noise."""

    pad: int = 4
    flip: bool = True

    def apply(self, images: Tensor, rows: Tensor, keys: Keys) -> Tensor:
        """Rows of uint8 (N, H, W, 3), each with its own crop and flip: uint8 (B, 3, H, W), channels last in memory.
        Only these rows are read: the set itself may be larger than memory."""
        draws, pad, size = keys.integers(2, 2 * self.pad + 1), self.pad, images.shape[1:3]
        x = images.index_select(0, rows)
        for dim, n in enumerate(size, 1) if pad else ():
            # torch's padding by reflection is not written for bytes.
            before, after = x.narrow(dim, 1, pad).flip(dim), x.narrow(dim, n - pad - 1, pad).flip(dim)
            x = torch.cat([before, x, after], dim)
        windows = x.unfold(1, size[0], 1).unfold(2, size[1], 1)  # (B, 2 pad + 1, 2 pad + 1, 3, H, W), a view
        x = windows[torch.arange(len(rows), device=x.device), draws[:, 0], draws[:, 1]]
        if self.flip:
            flipped = keys.sub("flip").integers(1, 2).bool()[:, :, None, None]
            x = torch.where(flipped, x.flip(3), x)
        return x
