"""LSTM language model. It implements ESPnet's BatchScorerInterface, so that ESPnet's beam search can score with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from irl.models.espnet import BatchScorerInterface
from irl.types import Output


@dataclass(frozen=True)
class LSTMLMConfig:
    """Sizes. tied: the output layer's weights are the embedding's; then embedding_units must equal units."""

    layers: int = 2
    units: int = 650
    embedding_units: int = 650
    dropout: float = 0.0
    tied: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "units", "embedding_units"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.tied and self.embedding_units != self.units:
            raise ValueError(f"tied needs embedding_units equal to units, got {self.embedding_units} and {self.units}")


class LMState(NamedTuple):
    """h and c of every layer, (L, B, H) each."""

    h: Tensor
    c: Tensor

    def rows(self, index: Tensor) -> LMState:
        return LMState(self.h[:, index], self.c[:, index])


class LSTMLM(nn.Module, BatchScorerInterface):
    """tokens (B, T) -> Output with logits (B, T, V) of the tokens that follow; hidden: embedding, rnn.0, ...

    Dropout acts on the embedding and on every layer's output (Zaremba et al. 2014); hidden states are taken before it.
    """

    def __init__(self, vocab_size: int, config: LSTMLMConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.embedding_units)
        self.layers = nn.ModuleList(
            nn.LSTM(config.units if i else config.embedding_units, config.units, batch_first=True)
            for i in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.units, vocab_size)
        if config.tied:
            self.output.weight = self.embed.weight

    def first_state(self, rows: int) -> LMState:
        zeros = self.embed.weight.new_zeros(len(self.layers), rows, self.output.in_features)
        return LMState(zeros, zeros)

    def hidden_states(self, x: Tensor, state: LMState) -> tuple[Tensor, list[Tensor], LMState]:
        """(B, T) after `state` -> logits (B, T, V), each layer's hidden state (B, T, units), state after them."""
        hidden, finals = [self.embed(x)], []
        for layer, h, c in zip(self.layers, *state):
            value, final = layer(self.dropout(hidden[-1]), (h[None], c[None]))
            hidden.append(value)
            finals.append(final)
        h, c = (torch.cat(parts) for parts in zip(*finals))
        return self.output(self.dropout(hidden[-1])), hidden, LMState(h, c)

    def forward(self, x: Tensor, x_lens: Tensor) -> Output:
        """Each row begins anew. x (B, T), x_lens (B,)."""
        logits, hidden, _ = self.hidden_states(x, self.first_state(len(x)))
        names = ["embedding", *(f"rnn.{i}" for i in range(len(self.layers)))]
        return Output(logits, dict(zip(names, hidden)), dict.fromkeys([*names, "logits"], x_lens))

    def step(self, tokens: Tensor, state: LMState) -> tuple[Tensor, LMState]:
        """Last tokens (B,) -> log probabilities of the next (B, V), new state."""
        logits, _, state = self.hidden_states(tokens[:, None], state)
        return logits[:, 0].log_softmax(-1), state

    # ESPnet's scorer protocol; x, the encoder's output, tells nothing to a language model.

    def init_state(self, x: Tensor) -> LMState:
        return self.first_state(1)

    batch_init_state = init_state

    def score(self, y: Tensor, state: LMState, x: Tensor) -> tuple[Tensor, LMState]:
        scores, states = self.batch_score(y[None], [state], x[None])
        return scores[0], states[0]

    def batch_score(self, ys: Tensor, states: list[LMState], xs: Tensor) -> tuple[Tensor, list[LMState]]:
        """ys (n, L), one state a hypothesis -> log probabilities (n, V), new states."""
        log_probs, state = self.step(ys[:, -1], LMState(*(torch.cat(parts, dim=1) for parts in zip(*states))))
        return log_probs, [LMState(*parts) for parts in zip(*(x.split(1, dim=1) for x in state))]
