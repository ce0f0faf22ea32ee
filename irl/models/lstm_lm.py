"""LSTM language model. It implements ESPnet's BatchScorerInterface, so that ESPnet's beam search can score with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irl.core.output import Output
from irl.core.types import BelowOne, Checked, Count, NonNegative
from irl.models.espnet import BatchScorerInterface


@dataclass(frozen=True)
class LSTMLMConfig(Checked):
    """Sizes. tied: the output layer's weights are the embedding's; then embedding_units must equal units.

    dropout: on the embedding's output and every layer's. variational: one mask for all steps of a sequence (Gal and
    Ghahramani 2016). init: weights are uniform on [-init, init], biases 0; 0 is torch's own initialisation. forget_bias
    is added to the bias of the forget gates.
    """

    layers: Count = 2
    units: Count = 650
    embedding_units: Count = 650
    dropout: BelowOne = 0.0
    tied: bool = False
    variational: bool = False
    init: NonNegative = 0.0
    forget_bias: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.embedding_units != self.units:
            raise ValueError(f"tied needs embedding_units equal to units, got {self.embedding_units} and {self.units}")

    def layer_names(self) -> list[str]:
        """Names of the hidden states in forward order."""
        return ["embedding", *(f"rnn.{i}" for i in range(self.layers))]


class LMState(NamedTuple):
    """h and c of every layer, (L, B, H) each."""

    h: Tensor
    c: Tensor

    def rows(self, index: Tensor) -> LMState:
        return LMState(self.h[:, index], self.c[:, index])


class Dropout(nn.Module):
    """Dropout of (N, T, D). shared: the N rows are so many views of the same examples, which get the same mask."""

    def __init__(self, p: float, variational: bool = False) -> None:
        super().__init__()
        self.p, self.variational, self.shared = p, variational, 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if not self.variational and self.shared == 1:
            return F.dropout(x, self.p)
        rows, steps, units = x.shape
        ones = x.new_ones(rows // self.shared, 1 if self.variational else steps, units)
        return x * F.dropout(ones, self.p).repeat(self.shared, 1, 1)


class LSTMLM(nn.Module, BatchScorerInterface):
    """tokens (B, T) -> Output with logits (B, T, V) of the tokens that follow; hidden: embedding, rnn.0, ...

    Dropout acts on the embedding and on every layer's output (Zaremba et al. 2014); hidden states are taken before it.
    extra: number of input symbols beyond the vocabulary, the last of which, if there are two, has a zero embedding.
    """

    def __init__(self, vocab_size: int, config: LSTMLMConfig, extra: int = 0) -> None:
        super().__init__()
        self.names = config.layer_names()
        zero = vocab_size + 1 if extra > 1 else None
        self.embed = nn.Embedding(vocab_size + extra, config.embedding_units, padding_idx=zero)
        self.layers = nn.ModuleList(
            nn.LSTM(config.units if i else config.embedding_units, config.units, batch_first=True)
            for i in range(config.layers)
        )
        self.dropout = Dropout(config.dropout, config.variational)
        self.output = nn.Linear(config.units, vocab_size)
        if config.tied:
            self.output.weight = self.embed.weight
        self._initialise(config, zero)

    @torch.no_grad()
    def _initialise(self, config: LSTMLMConfig, zero: int | None) -> None:
        for name, parameter in self.named_parameters() if config.init else ():
            if "bias" in name:
                parameter.zero_()
            else:
                parameter.uniform_(-config.init, config.init)
        if zero is not None:
            self.embed.weight[zero] = 0
        if config.forget_bias:
            for name, parameter in self.layers.named_parameters():
                if name.endswith("bias_ih_l0"):
                    # Gates stand in the order input, forget, cell, output.
                    parameter[config.units : 2 * config.units] += config.forget_bias

    def first_state(self, rows: int) -> LMState:
        zeros = self.embed.weight.new_zeros(len(self.layers), rows, self.output.in_features)
        return LMState(zeros, zeros)

    def hidden_states(self, x: Tensor, state: LMState) -> tuple[Tensor, list[Tensor], LMState]:
        """(B, T) after `state` -> logits (B, T, V), each layer's hidden state (B, T, units), state after them. Instead
        of words x may hold their embeddings (B, T, E), by which outputs can then be differentiated."""
        hidden, finals = [x if x.is_floating_point() else self.embed(x)], []
        for layer, h, c in zip(self.layers, *state):
            value, final = layer(self.dropout(hidden[-1]), (h[None], c[None]))
            hidden.append(value)
            finals.append(final)
        h, c = (torch.cat(parts) for parts in zip(*finals))
        # Tied weights may hold input symbols that are never predicted.
        weight = self.output.weight[: len(self.output.bias)]
        return F.linear(self.dropout(hidden[-1]), weight, self.output.bias), hidden, LMState(h, c)

    def read(self, x: Tensor, state: LMState, x_lens: Tensor | None = None) -> tuple[Output, LMState]:
        """`hidden_states` as an Output, and the state after it. x_lens (B,): None where all of x (B, T) is valid."""
        logits, hidden, state = self.hidden_states(x, state)
        x_lens = torch.full((len(x),), x.shape[1], device=x.device) if x_lens is None else x_lens
        lens = dict.fromkeys([*self.names, "logits"], x_lens)
        return Output(logits, dict(zip(self.names, hidden)), lens), state

    def forward(self, x: Tensor, x_lens: Tensor) -> Output:
        """Each row begins anew. x (B, T), x_lens (B,)."""
        return self.read(x, self.first_state(len(x)), x_lens)[0]

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


class FromEmbeddings(nn.Module):
    """A language model as a function of its words' embeddings (N, T, E), each row beginning anew: for derivatives."""

    def __init__(self, model: LSTMLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Output:
        return self.model.read(x, self.model.first_state(len(x)))[0]
