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

Kind = Literal["blank", "unigram", "drop", "kneser_ney"]
KINDS = get_args(Kind)
# Words are replaced by draws of words.
DRAWN = ("unigram", "kneser_ney")
# Input symbols beyond the vocabulary: a blank with an embedding of its own, and one whose embedding is zero.
EXTRA = {"blank": 0, "drop": 1}


@dataclass(frozen=True)
class WordNoiseConfig(Checked):
    """Each input word is replaced with probability p: "blank" by a special token, "unigram" by a draw from the training
    text's unigram distribution, "drop" by nothing, a zero embedding (word dropout). "kneser_ney": with p times the
    number of a word's different followers over the number of all of them, by a word drawn in proportion to the number
    of its different predecessors. The paper then replaces the next word too; here it is kept, so that all views predict
    the same words."""

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


def bigram_counts(words: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three counts of each word x of a text (T,), int64 (size,): c(x), its followers; N1+(x, .), its different
    followers; N1+(., x), its different predecessors."""
    before, after = words[:-1], words[1:]
    pairs = torch.unique(before * size + after)
    followers, predecessors = (torch.bincount(x, minlength=size) for x in (pairs // size, pairs % size))
    return torch.bincount(before, minlength=size), followers, predecessors


class WordNoise:
    """The noise of a configuration. counts: of the vocabulary's V words in training, or their probabilities, (V,).

    blank: the input symbol that stands for a blank, by default V. protected: ids of words that are never replaced.
    shares: by word, what p is multiplied by, (V,).
    """

    def __init__(
        self,
        config: WordNoiseConfig,
        counts: Tensor,
        blank: int | None = None,
        protected: Sequence[int] = (),
        shares: Tensor | None = None,
    ) -> None:
        if (config.kind == "kneser_ney") != (shares is not None):
            raise ValueError("kind 'kneser_ney' and shares go together; WordNoise.of_text counts them")
        self.config = config
        self.rates = None if shares is None else config.p * shares
        self.size = len(counts)
        self.blank = self.size if blank is None else blank
        self.protected = torch.tensor(protected, dtype=torch.int64)
        if config.kind in DRAWN:
            # Bounds in whole numbers: a word's share of the draws is its share of the counts, to 2**-31. The last one
            # is kept as a number of Python's: to read it from a GPU would wait for what runs there.
            self.bounds = bounds_of(counts)
            self.total = int(self.bounds[-1])

    @classmethod
    def of_text(cls, config: WordNoiseConfig, words: Tensor, counts: Tensor) -> WordNoise:
        """The noise for a training text (T,) with these counts of the vocabulary's words, (V,)."""
        if config.kind != "kneser_ney":
            return cls(config, counts)
        followed, followers, predecessors = bigram_counts(words, len(counts))
        return cls(config, predecessors, shares=followers / followed.clamp(min=1))

    def draw(self, keys: Keys, length: int = 1) -> tuple[Tensor, Tensor]:
        """Of N texts of so many positions, or of N positions, a number u in [0, 1), (N * length,): a word is replaced
        if u is below its probability of being replaced; and by which input symbol, int64 (N * length,)."""
        chance = keys.sub("where").uniform(length).flatten()
        kind = self.config.kind
        if kind in DRAWN:
            self.bounds = self.bounds.to(keys.ids.device)
            place = keys.sub("word").integers(length, self.total).flatten()
            return chance, torch.searchsorted(self.bounds, place, right=True)
        symbol = self.blank if kind == "blank" else self.size + EXTRA[kind]
        return chance, torch.full_like(chance, symbol, dtype=torch.int64)

    def apply(self, words: Tensor, params: tuple[Tensor, Tensor]) -> Tensor:
        """Input words of the positions that were drawn for, of any shape -> new ones."""
        chance, by = (x.view(words.shape) for x in params)
        if self.rates is not None:
            self.rates = self.rates.to(words.device)
        replaced = chance < (self.config.p if self.rates is None else self.rates[words])
        if len(self.protected):
            self.protected = self.protected.to(words.device)
            replaced = replaced & ~torch.isin(words, self.protected)
        return torch.where(replaced, by.to(words.dtype), words)
