"""Perplexity of texts under a trained language model."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.errors import UserError
from irl.core.output import Output
from irl.data.text import WordVocabulary, words_of
from irl.language.config import LanguageConfig
from irl.models.lstm_lm import LSTMLM
from irl.noise.text import EXTRA
from irl.training import checkpoint
from irl.training.checkpoint import load_model

LONGEST = 1000  # words; longer than the memory of a word in a language model, for intervals resample lines


@torch.no_grad()
def by_line(model: LSTMLM, vocabulary: WordVocabulary, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The negative log likelihood of each line in nats, and the number of its predicted words, (L,) each. A line of
    more than LONGEST words counts as several, so that a text without line breaks has intervals."""
    device = next(model.parameters()).device
    text = vocabulary.encode(path).to(device)
    if len(text) < 2:
        raise UserError(f"{path}: no word to predict")
    chunks = [token_losses(view, text, chunk).double().cpu() for chunk, (view,) in read_through(model, [text])]
    numbers = np.array([number for number, _ in words_of(path)])
    positions = np.arange(len(numbers))
    begins = np.maximum.accumulate(np.where(np.diff(numbers, prepend=0) > 0, positions, 0))
    lines = np.cumsum((positions - begins) % LONGEST == 0) - 1
    count = int(lines[-1]) + 1
    nats = np.bincount(lines[1:], torch.cat(chunks).numpy(), count)
    return nats, np.bincount(lines[1:], minlength=count)


EVALUATED = 500  # tokens at once; results do not depend on it


def read_through(model: LSTMLM, texts: list[Tensor]) -> Iterator[tuple[slice, list[Output]]]:
    """Views of a text and its copies, each read as one row from its first word on: for chunks of the positions 0 to
    N - 2, after each of which a word is predicted, the chunk and a view of each. States go on: chunks change nothing.
    """
    states = [model.first_state(1) for _ in texts]
    for begin in range(0, len(texts[0]) - 1, EVALUATED):
        chunk = slice(begin, min(begin + EVALUATED, len(texts[0]) - 1))
        views = []
        for i, text in enumerate(texts):
            view, states[i] = model.read(text[None, chunk], states[i])
            views.append(view)
        yield chunk, views


def token_losses(view: Output, text: Tensor, chunk: slice) -> Tensor:
    """Negative log likelihood in nats of the words that follow the positions of a chunk."""
    target = text[chunk.start + 1 : chunk.stop + 1]
    return F.cross_entropy(view.logits[0].float(), target, reduction="none")


def build_model(config: LanguageConfig, words: int) -> LSTMLM:
    return LSTMLM(words, config.model, extra=len(EXTRA))


def load(path: Path, device: torch.device | str) -> tuple[LSTMLM, WordVocabulary, LanguageConfig]:
    """The model of a checkpoint, or the mean of its best weights, in eval mode; words without counts."""
    state, config, weights = load_model(path, "language", LanguageConfig)
    vocabulary = WordVocabulary(state["words"], [0] * len(state["words"]))
    model = build_model(config, len(vocabulary))
    checkpoint.load_weights(model, weights, path)
    return model.to(device).eval(), vocabulary, config
