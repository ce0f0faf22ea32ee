"""A bidirectional LSTM layer that is exact on padded batches in any order, without packing.

Packed nn.LSTM on CPU is several times slower in the backward pass and, in ESPnet, wants sorted batches. Here the
backward direction runs on each utterance reversed within its own length, so padding always comes last in time and
never reaches a valid frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def reverse_padded(x: Tensor, lens: Tensor) -> Tensor:
    """Reverse each sequence of x (B, T, D) within its length; padding keeps its place. Its own inverse."""
    time = torch.arange(x.shape[1], device=x.device)
    mirrored = lens.to(x.device)[:, None] - 1 - time
    index = torch.where(mirrored >= 0, mirrored, time)
    return x.gather(1, index[..., None].expand_as(x))


class BLSTM(nn.Module):
    """(B, T, D) -> (B, T, 2 * units); valid frames equal those of packed nn.LSTM(bidirectional=True)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.forward_lstm = nn.LSTM(inputs, units, batch_first=True)
        self.backward_lstm = nn.LSTM(inputs, units, batch_first=True)

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        ahead, _ = self.forward_lstm(x)
        back, _ = self.backward_lstm(reverse_padded(x, lens))
        return torch.cat([ahead, reverse_padded(back, lens)], dim=-1)
