"""Noise on the input words of a language model (Xie et al. 2017): some input words are replaced, target words never.

Draws belong to a position in the text, so they are the same whatever the batch size and the length of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from irl.core.rng import Keys
from irl.core.types import Checked, Fraction

Kind = Literal["blank", "unigram", "drop"]
KINDS = get_args(Kind)
# Input symbols beyond the vocabulary: a blank with an embedding of its own, and one whose embedding is zero.
EXTRA = {"blank": 0, "drop": 1}


@dataclass(frozen=True)
class WordNoiseConfig(Checked):
    """Each input word is replaced with probability p: "blank" by a special token, "unigram" by a draw from the training
    text's unigram distribution, "drop" by nothing, a zero embedding (word dropout)."""

    kind: Kind = "blank"
    p: Fraction = 0.2


class WordNoise:
    """The noise of a configuration. counts: of the vocabulary's V words in training, (V,)."""

    def __init__(self, config: WordNoiseConfig, counts: Tensor) -> None:
        self.config = config
        self.size = len(counts)
        # Bounds in whole numbers: a word's share of the draws is its share of the counts, to 2**-32.
        self.bounds = counts.long().cumsum(0)
        self.total = int(self.bounds[-1])

    def draw(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """For each of N positions whether its word is replaced, bool (N,), and by which input symbol, int64 (N,)."""
        c = self.config
        replaced = keys.sub("where").uniform(1)[:, 0] < c.p
        if c.kind == "unigram":
            self.bounds = self.bounds.to(keys.ids.device)
            place = keys.sub("word").integers(1, self.total)[:, 0]
            return replaced, torch.searchsorted(self.bounds, place, right=True)
        return replaced, torch.full_like(keys.ids, self.size + EXTRA[c.kind])

    def apply(self, words: Tensor, params: tuple[Tensor, Tensor]) -> Tensor:
        """Input words of the positions that were drawn for, of any shape -> new ones."""
        replaced, by = (x.view(words.shape) for x in params)
        return torch.where(replaced, by, words)
