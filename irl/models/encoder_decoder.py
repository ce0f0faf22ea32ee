"""The 4-4 encoder-decoder: BLSTM encoder, attention LSTM decoder, optional CTC head on the encoder.

Encoder and decoder implement ESPnet's AbsEncoder, AbsDecoder and BatchScorerInterface, so ESPnet's beam search and
its CTC prefix scorer decode this model, and an ESPnet model can be built from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from irl.core.output import Output, lens_to_mask
from irl.core.types import BelowOne, Checked, Count, Natural
from irl.models.attention import Attention, AttentionKind, Memory
from irl.models.blstm import BLSTM
from irl.models.espnet import AbsDecoder, AbsEncoder, BatchScorerInterface


@dataclass(frozen=True)
class EncoderDecoderConfig(Checked):
    """Sizes. encoder_units is per direction; subsampling keeps every s-th frame of each encoder layer's output."""

    encoder_layers: Count = 4
    encoder_units: Count = 320
    subsampling: tuple[Count, ...] = (1, 1, 1, 1)
    decoder_layers: Count = 4
    decoder_units: Count = 320
    embedding_units: Count = 320
    attention: AttentionKind = "location"
    attention_units: Count = 320
    location_channels: Count = 10
    location_width: Natural = 50
    layer_norm: bool = True
    dropout: BelowOne = 0.0
    ctc: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.subsampling) != self.encoder_layers:
            raise ValueError(
                f"subsampling needs one factor for each of {self.encoder_layers} encoder layers, "
                f"got {list(self.subsampling)}"
            )

    def layer_names(self) -> list[str]:
        """Names of the hidden states in forward order."""
        encoder = [f"encoder.{i}" for i in range(self.encoder_layers)]
        return encoder + [f"decoder.{i}" for i in range(self.decoder_layers)]


class Encoder(AbsEncoder):
    """Normalised input (B, T, F), then BLSTM layers, each followed by LayerNorm, subsampling and dropout.

    A layer's hidden state is taken before its dropout, so that two views differ by their input, not by this mask.
    """

    def __init__(self, features: int, config: EncoderDecoderConfig) -> None:
        super().__init__()
        width = 2 * config.encoder_units
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.layers = nn.ModuleList(
            BLSTM(features if i == 0 else width, config.encoder_units) for i in range(config.encoder_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) if config.layer_norm else nn.Identity() for _ in self.layers)
        self.subsampling = config.subsampling
        self.dropout = nn.Dropout(config.dropout)
        self.width = width

    def output_size(self) -> int:
        return self.width

    def hidden_states(self, x: Tensor, lens: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """(B, T, F), (B,) -> the encoder's output (B, T', width), each layer's hidden state, and its lengths."""
        x = (x - self.mean) / self.std
        hidden, hidden_lens = [], []
        for layer, norm, factor in zip(self.layers, self.norms, self.subsampling):
            x = norm(layer(x, lens)[:, ::factor])
            lens = torch.div(lens + factor - 1, factor, rounding_mode="floor")
            hidden.append(x)
            hidden_lens.append(lens)
            x = self.dropout(x)
        return x, hidden, hidden_lens

    def forward(self, xs_pad: Tensor, ilens: Tensor, prev_states: None = None) -> tuple[Tensor, Tensor, None]:
        """ESPnet's signature."""
        x, _, lens = self.hidden_states(xs_pad, ilens)
        return x, lens[-1], None


class State(NamedTuple):
    """A decoder's state after some steps, B rows: the attention layer's h and c (B, H), context (B, E), attention
    weights (B, T), and h and c of the layers above (B, L - 1, H)."""

    h: Tensor
    c: Tensor
    context: Tensor
    weights: Tensor
    upper_h: Tensor
    upper_c: Tensor

    def rows(self, index: Tensor) -> State:
        return State(*(x[index] for x in self))


class CachedState(NamedTuple):
    """One hypothesis' state under ESPnet's scorer protocol, with the memory that all hypotheses share."""

    state: State
    memory: Memory


class Decoder(AbsDecoder, BatchScorerInterface):
    """An LSTM with attention, then LSTM layers above it; the output layer sees the last layer and the context.

    Only the attention layer runs step by step in training: the layers above take the whole sequence at once.
    """

    def __init__(self, vocab_size: int, values: int, config: EncoderDecoderConfig) -> None:
        # AbsDecoder's own __init__ is nn.Module's; the scorer interface adds no state.
        nn.Module.__init__(self)
        units = config.decoder_units
        self.embed = nn.Embedding(vocab_size, config.embedding_units)
        self.cell = nn.LSTMCell(config.embedding_units + values, units)
        self.attention = Attention(
            config.attention, units, values, config.attention_units, config.location_channels, config.location_width
        )
        self.upper = nn.ModuleList(
            nn.LSTM(units + (values if i == 0 else 0), units, batch_first=True)
            for i in range(config.decoder_layers - 1)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(units) if config.layer_norm else nn.Identity() for _ in range(config.decoder_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(units + values, vocab_size)

    def memory(self, hs_pad: Tensor, hlens: Tensor) -> Memory:
        return self.attention.memory(hs_pad, lens_to_mask(hlens.to(hs_pad.device), hs_pad.shape[1]))

    def first_state(self, memory: Memory) -> State:
        rows, units = len(memory.values), self.cell.hidden_size
        zeros = memory.values.new_zeros(rows, units)
        upper = memory.values.new_zeros(rows, len(self.upper), units)
        context = memory.values.new_zeros(rows, memory.values.shape[-1])
        return State(zeros, zeros, context, self.attention.first_weights(memory), upper, upper)

    def _attend(self, embedded: Tensor, state: State, memory: Memory) -> State:
        h, c = self.cell(torch.cat([embedded, state.context], dim=-1), (state.h, state.c))
        context, weights = self.attention(h, state.weights, memory)
        return state._replace(h=h, c=c, context=context, weights=weights)

    def _above(self, h: Tensor, context: Tensor, state: State) -> tuple[Tensor, list[Tensor], State]:
        """The layers above the attention layer: h (B, U, H), context (B, U, E) -> logits, hidden states, state."""
        hidden = [self.norms[0](h)]
        finals = []
        for i, (lstm, norm) in enumerate(zip(self.upper, self.norms[1:])):
            x = self.dropout(hidden[-1])
            x = torch.cat([x, context], dim=-1) if i == 0 else x
            start = (state.upper_h[:, i][None].contiguous(), state.upper_c[:, i][None].contiguous())
            x, final = lstm(x, start)
            finals.append(final)
            hidden.append(norm(x))
        if finals:
            upper_h, upper_c = (torch.stack([f[j][0] for f in finals], dim=1) for j in (0, 1))
            state = state._replace(upper_h=upper_h, upper_c=upper_c)
        return self.output(torch.cat([self.dropout(hidden[-1]), context], dim=-1)), hidden, state

    def hidden_states(self, hs_pad: Tensor, hlens: Tensor, ys_in: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Teacher forcing: (B, T, E), (B,), (B, U) -> logits (B, U, V) and each layer's hidden state (B, U, H)."""
        memory = self.memory(hs_pad, hlens)
        state = self.first_state(memory)
        embedded = self.dropout(self.embed(ys_in))
        hs, contexts = [], []
        for u in range(ys_in.shape[1]):
            state = self._attend(embedded[:, u], state, memory)
            hs.append(state.h)
            contexts.append(state.context)
        logits, hidden, _ = self._above(torch.stack(hs, dim=1), torch.stack(contexts, dim=1), state)
        return logits, hidden

    def forward(self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor) -> tuple[Tensor, Tensor]:
        """ESPnet's signature: logits before softmax (B, U, V) and their lengths."""
        return self.hidden_states(hs_pad, hlens, ys_in_pad)[0], ys_in_lens

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """One step of decoding: last tokens (B,) -> log probabilities of the next (B, V), new state."""
        state = self._attend(self.embed(tokens), state, memory)
        logits, _, state = self._above(state.h[:, None], state.context[:, None], state)
        return logits[:, 0].log_softmax(-1), state

    # ESPnet's scorer protocol: x is one utterance's encoder output (T, E), without padding.

    def init_state(self, x: Tensor) -> CachedState:
        memory = self.memory(x[None], torch.tensor([len(x)]))
        return CachedState(self.first_state(memory), memory)

    batch_init_state = init_state

    def score(self, y: Tensor, state: CachedState, x: Tensor) -> tuple[Tensor, CachedState]:
        scores, states = self.batch_score(y[None], [state], x[None])
        return scores[0], states[0]

    def batch_score(self, ys: Tensor, states: list[CachedState], xs: Tensor) -> tuple[Tensor, list[CachedState]]:
        """ys (n, L), one state a hypothesis, xs (n, T, E) -> log probabilities (n, V), new states."""
        memory = states[0].memory
        expanded = Memory(*(m.expand(len(ys), *m.shape[1:]) for m in memory))
        state = State(*(torch.cat(rows) for rows in zip(*(s.state for s in states))))
        log_probs, state = self.step(ys[:, -1], state, expanded)
        return log_probs, [CachedState(State(*rows), memory) for rows in zip(*(x.split(1) for x in state))]


class CTCHead(nn.Linear):
    """The CTC output layer; blank is token 0. log_softmax is the method that ESPnet's CTC prefix scorer calls."""

    def log_softmax(self, hs_pad: Tensor) -> Tensor:
        return self(hs_pad).log_softmax(-1)


class EncoderDecoder(nn.Module):
    """features (B, T, F) and previous tokens (B, U) -> Output over tokens; hidden: encoder.0 ... decoder.0 ..."""

    def __init__(self, features: int, vocab_size: int, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(features, config)
        self.decoder = Decoder(vocab_size, self.encoder.output_size(), config)
        self.ctc = CTCHead(self.encoder.output_size(), vocab_size) if config.ctc else None

    def forward(self, x: Tensor, x_lens: Tensor, y_in: Tensor, y_in_lens: Tensor) -> Output:
        """x (B, T, F), x_lens (B,), y_in (B, U) beginning with sos, y_in_lens (B,).

        Returns logits (B, U, V), hidden states and lengths of every layer, and extra["ctc"] (B, T', V) logits.
        """
        encoded, encoder_hidden, encoder_lens = self.encoder.hidden_states(x, x_lens)
        logits, decoder_hidden = self.decoder.hidden_states(encoded, encoder_lens[-1], y_in)
        names = self.config.layer_names()
        hidden = dict(zip(names, encoder_hidden + decoder_hidden))
        lens: dict[str, Any] = dict(zip(names, encoder_lens + [y_in_lens] * len(decoder_hidden)))
        lens["logits"] = y_in_lens
        extra = {}
        if self.ctc is not None:
            extra["ctc"] = self.ctc(encoded)
            lens["ctc"] = encoder_lens[-1]
        return Output(logits, hidden, lens, extra)
