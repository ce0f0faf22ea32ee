"""Attention of a decoder step over frames: additive (Bahdanau 2015), dot (Luong 2015), location (Chorowski 2015)."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

AttentionKind = Literal["additive", "dot", "location"]
KINDS = get_args(AttentionKind)


class Memory(NamedTuple):
    """What attention reads: values (B, T, E), their keys (B, T, A), mask (B, T) True on valid frames."""

    values: Tensor
    keys: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> Memory:
        return Memory(*(x[index] for x in self))


class Attention(nn.Module):
    """One head. location_channels and location_width (frames to each side) shape the location kind's convolution."""

    def __init__(
        self, kind: str, queries: int, values: int, units: int, location_channels: int = 10, location_width: int = 50
    ) -> None:
        super().__init__()
        assert kind in KINDS, kind
        self.kind = kind
        self.scale = units**-0.5
        self.key = nn.Linear(values, units)
        self.query = nn.Linear(queries, units, bias=False)
        if kind != "dot":
            self.score = nn.Linear(units, 1, bias=False)
        if kind == "location":
            self.convolution = nn.Conv1d(
                1, location_channels, 2 * location_width + 1, padding=location_width, bias=False
            )
            self.location = nn.Linear(location_channels, units, bias=False)

    def memory(self, values: Tensor, mask: Tensor) -> Memory:
        return Memory(values, self.key(values), mask)

    def first_weights(self, memory: Memory) -> Tensor:
        """Uniform weights (B, T) over valid frames, the "previous" weights of the first step."""
        mask = memory.mask.to(memory.keys.dtype)
        return mask / mask.sum(1, keepdim=True)

    def forward(self, query: Tensor, previous: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """query (B, Q), previous weights (B, T) -> context (B, E), weights (B, T)."""
        q = self.query(query)[:, None]
        if self.kind == "dot":
            energy = (q @ memory.keys.transpose(1, 2)).squeeze(1) * self.scale
        else:
            # In place, because tensors (B, T, A) are the largest of a step: one is made of them, not four. (Under
            # torch.func.vmap all arguments must be batched for that.)
            if self.kind == "location":
                features = self.location(self.convolution(previous[:, None]).transpose(1, 2)).add_(memory.keys).add_(q)
            else:
                features = memory.keys + q
            energy = self.score(features.tanh_()).squeeze(-1)
        weights = energy.masked_fill(~memory.mask, float("-inf")).softmax(-1)
        return (weights[:, None] @ memory.values).squeeze(1), weights
