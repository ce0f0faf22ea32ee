"""What stands between the speaker and the recording: its level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from irl.core.rng import Keys


@dataclass(frozen=True)
class Level:
    """Another recording level, without clipping: so many decibels more, or, where dbfs is set, an RMS of so many dBFS.
    Samples are rounded to steps of 16 bits. Silence stays silence."""

    decibels: float
    dbfs: bool = False

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> Tensor:
        return torch.full((len(lens),), self.decibels)

    def apply(self, waves: Tensor, lens: Tensor, params: Tensor) -> Tensor:
        gain = 10 ** (params / 20)
        if self.dbfs:
            gain = gain / (waves.square().sum(1) / lens).sqrt().clamp(min=1e-6)
        return (waves * gain[:, None] * 32768).round() / 32768
