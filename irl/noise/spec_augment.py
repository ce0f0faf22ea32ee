"""SpecAugment's masks (Park et al. 2019): a noise of features, where the noises of `irl.noise.audio` are of waveforms.

Law 1 holds here too: draw(keys, lens) -> params, apply(features, lens, params) -> new features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irl.core.rng import Keys

MASKS = 2
# The widest masks of Park et al.'s policy SS: 27 of 80 mel channels; a fifth of an utterance (p = 0.2), at most 0.7 s.
MEL_SHARE, TIME_SHARE, TIME_SECONDS = 27 / 80, 0.2, 0.7


class Masks(NamedTuple):
    """Begin and end of each mask, int64 (N, MASKS) each: over frames and over mel channels."""

    time_begin: Tensor
    time_end: Tensor
    mel_begin: Tensor
    mel_end: Tensor


@dataclass(frozen=True)
class SpecAugment:
    """Features are (N, T, stack * mels), a mel channel being masked in every frame of a stack. No time warping.

    frame: seconds from one feature vector to the next.
    """

    mels: int
    frame: float = 0.01

    def draw(self, keys: Keys, lens: Tensor) -> Masks:
        longest = (lens * TIME_SHARE).long().clamp(max=round(TIME_SECONDS / self.frame))
        time = self._spans(keys.sub("time"), lens, longest)
        mels = torch.full_like(lens, self.mels)
        return Masks(*time, *self._spans(keys.sub("mel"), mels, (mels * MEL_SHARE).long()))

    @staticmethod
    def _spans(keys: Keys, size: Tensor, widest: Tensor) -> tuple[Tensor, Tensor]:
        """A width uniform on [0, widest], then a begin uniform where the mask fits. size, widest: (N,)."""
        size, widest = size[:, None], widest[:, None]
        width = keys.sub("width").integers(MASKS, widest + 1)
        begin = (keys.sub("begin").uniform(MASKS) * (size - width + 1)).long()
        return begin, begin + width

    def apply(self, features: Tensor, lens: Tensor, params: Masks) -> Tensor:
        """What is masked gets the mean of its channel over the utterance."""
        n, frames, dim = features.shape
        time = torch.arange(frames, device=features.device)[None, :, None]
        # Frames outside 0 ... len - 1 are padding: it counts in no mean, and no mask reaches it.
        valid = time[..., 0] < lens[:, None]
        mean = (features * valid[..., None]).sum(1) / lens.clamp(min=1)[:, None]
        mel = (torch.arange(dim, device=features.device) % self.mels)[None, :, None]
        in_time = ((time >= params.time_begin[:, None]) & (time < params.time_end[:, None])).any(-1)
        in_mel = ((mel >= params.mel_begin[:, None]) & (mel < params.mel_end[:, None])).any(-1)
        masked = (in_time[..., None] | in_mel[:, None]) & valid[..., None]
        return torch.where(masked, mean[:, None], features)
