"""Many short sequences of numbers in two arrays; a list of tensors would take a kilobyte each, in every worker."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Ragged:
    """Sequences of numbers, none of them negative, by index. numbers: (total,), all in a row, kept in the smallest type
    that holds them. lengths: (N,)"""

    def __init__(self, numbers: np.ndarray, lengths: np.ndarray) -> None:
        self.lengths = lengths
        self._numbers = numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))), copy=False)
        self._ends = np.concatenate(([0], lengths.cumsum()))

    def count(self, rows: list[int]) -> int:
        """How many numbers these sequences have."""
        return int(self.lengths[rows].sum())

    def batch(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """int64 (N, longest), padded with -1, and lengths (N,)."""
        chosen = [self._numbers[self._ends[i] : self._ends[i + 1]].astype(np.int64) for i in rows]
        y = pad_sequence([torch.from_numpy(x) for x in chosen], batch_first=True, padding_value=-1)
        return y, torch.from_numpy(self.lengths[rows])


def previous(y: Tensor, first: int) -> Tensor:
    """The token before each of a batch (N, T) padded with -1: `first`, then all but the last; 0 on padding."""
    return torch.cat([y.new_full((len(y), 1), first), y[:, :-1]], dim=1).clamp(min=0)
