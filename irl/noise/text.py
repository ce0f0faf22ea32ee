"""Noise on the input words of a language model (Xie et al. 2017): some input words are replaced, target words never.

Draws belong to a position in the text, so they are the same whatever the batch size and the length of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Sequence, get_args

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


# Draws of words are whole numbers below this.
LARGEST = 2**31 - 1


def bounds_of(counts: Tensor) -> Tensor:
    """Upper ends of the words' shares of the draws, int64 (V,): counts summed up, where they are whole and sum to less
    than 2**31, so that shares are exact; otherwise scaled to that, as probabilities need.

    Raises ValueError for counts that are negative, not finite, or all zero.
    """
    if counts.dim() != 1 or not bool((counts >= 0).all()) or not bool(counts.sum() < torch.inf) or not counts.any():
        raise ValueError(
            f"counts: expected counts or probabilities (V,) of the words, not negative and not all zero, found {counts}"
        )
    if counts.sum(dtype=torch.float64) <= LARGEST and bool((counts == counts.long()).all()):
        return counts.long().cumsum(0)
    shares = counts.double().cumsum(0)
    return (shares / shares[-1] * LARGEST).round().long()


class WordNoise:
    """The noise of a configuration. counts: of the vocabulary's V words in training, or their probabilities, (V,).

    blank: the input symbol that stands for a blank, by default V. protected: ids of words that are never replaced.
    """

    def __init__(
        self, config: WordNoiseConfig, counts: Tensor, blank: int | None = None, protected: Sequence[int] = ()
    ) -> None:
        self.config = config
        self.size = len(counts)
        self.blank = self.size if blank is None else blank
        self.protected = torch.tensor(protected, dtype=torch.int64)
        if config.kind == "unigram":
            # Bounds in whole numbers: a word's share of the draws is its share of the counts, to 2**-31. The last one
            # is kept as a number of Python's: to read it from a GPU would wait for what runs there.
            self.bounds = bounds_of(counts)
            self.total = int(self.bounds[-1])

    def draw(self, keys: Keys, length: int = 1) -> tuple[Tensor, Tensor]:
        """Of N texts of so many positions, or of N positions, whether each word is replaced, bool (N * length,), and by
        which input symbol, int64 (N * length,)."""
        c = self.config
        replaced = keys.sub("where").uniform(length).flatten() < c.p
        if c.kind == "unigram":
            self.bounds = self.bounds.to(keys.ids.device)
            place = keys.sub("word").integers(length, self.total).flatten()
            return replaced, torch.searchsorted(self.bounds, place, right=True)
        symbol = self.blank if c.kind == "blank" else self.size + EXTRA[c.kind]
        return replaced, torch.full_like(replaced, symbol, dtype=torch.int64)

    def apply(self, words: Tensor, params: tuple[Tensor, Tensor]) -> Tensor:
        """Input words of the positions that were drawn for, of any shape -> new ones."""
        replaced, by = (x.view(words.shape) for x in params)
        if len(self.protected):
            self.protected = self.protected.to(words.device)
            replaced = replaced & ~torch.isin(words, self.protected)
        return torch.where(replaced, by.to(words.dtype), words)
