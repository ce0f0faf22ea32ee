"""Many short sequences of numbers in two arrays; a list of tensors would take a kilobyte each, in every worker."""

from __future__ import annotations

from array import array
from typing import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Ragged:
    """int64 sequences by index."""

    def __init__(self, sequences: Iterable[list[int]]) -> None:
        numbers, ends = array("i"), [0]
        for sequence in sequences:
            numbers.extend(sequence)
            ends.append(len(numbers))
        self.numbers = torch.from_numpy(np.array(numbers, dtype=np.int32))
        self.ends = torch.tensor(ends)

    @property
    def lengths(self) -> list[int]:
        return self.ends.diff().tolist()

    def count(self, rows: list[int]) -> int:
        """How many numbers these sequences have."""
        return sum(int(self.ends[i + 1] - self.ends[i]) for i in rows)

    def batch(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """int64 (N, longest), padded with -1, and lengths (N,)."""
        chosen = [self.numbers[self.ends[i] : self.ends[i + 1]].long() for i in rows]
        return pad_sequence(chosen, batch_first=True, padding_value=-1), torch.tensor([len(x) for x in chosen])
