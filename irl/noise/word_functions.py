"""Noises of tokens, each made by one call: `irl.noise.text` in other people's code."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor

from irl.core.output import lens_to_mask
from irl.core.rng import Keys
from irl.noise.functions import TOKENS, NoiseFunction
from irl.noise.text import WordNoise, WordNoiseConfig


class TokenFunction(NoiseFunction):
    """A word noise of `irl.noise.text`."""

    inputs = TOKENS

    def __init__(self, noise: WordNoise) -> None:
        super().__init__()
        self.noise = noise

    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None = None) -> Tensor:
        noisy = self.noise.apply(x, self.noise.draw(keys, x.shape[1]))
        return torch.where(lens_to_mask(lens.to(x.device), x.shape[1]), noisy, x)


def word_noise(
    p: float = 0.15, *, mask_id: int | None = None, counts: Any = None, protect: Sequence[int] = ()
) -> NoiseFunction:
    """Replaces each token with probability p: by `mask_id`, such as tokenizer.mask_token_id, or by a draw from `counts`
    (V,), how often each token occurs, or its probability. One of the two is to be given.

    protect: ids that are never replaced, nor drawn, such as tokenizer.all_special_ids.
    """
    if not 0 < p <= 1:
        raise ValueError(f"p: expected a probability above 0, found {p!r}")
    if (mask_id is None) == (counts is None):
        raise ValueError("word_noise: give mask_id or counts, one of them; a tokenizer without a mask token has mask_id"
                         f" None, found {mask_id!r} and {'no' if counts is None else 'given'} counts")  # fmt: skip
    kept = [int(i) for i in protect]
    if counts is None:
        return TokenFunction(WordNoise(WordNoiseConfig("blank", p), torch.zeros(0), mask_id, kept))
    weights = torch.as_tensor(counts).clone()
    weights[[i for i in kept if i < len(weights)]] = 0
    return TokenFunction(WordNoise(WordNoiseConfig("unigram", p), weights, protected=kept))
