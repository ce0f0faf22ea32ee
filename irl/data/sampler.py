"""The order of examples: length-bucketed batches that depend on (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from irl.core.rng import Keys

# Batches are cut from groups of this many batches' worth of shuffled examples, sorted by length within the group.
GROUP = 32


def epoch_batches(
    ids: Tensor, lengths: np.ndarray, batch_size: int, seed: int, epoch: int, short_first: bool = False
) -> list[list[int]]:
    """Every example once, in batches of similar lengths and, but for the last ones of groups, of batch_size examples.

    ids: int64 (N,) from `hash_ids`. lengths: (N,). short_first: batches in order of length, a curriculum for the first
    epoch.
    """
    keys = Keys(ids, seed, "order", epoch)
    draws = keys.uniform(1)[:, 0]
    order = torch.argsort(draws, stable=True).numpy()
    size = len(order) if short_first else GROUP * batch_size
    batches = []
    for begin in range(0, len(order), size):
        group = order[begin : begin + size]
        group = group[np.argsort(lengths[group], kind="stable")].tolist()
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    if short_first:
        return batches
    shuffle = Keys(torch.arange(len(batches)), seed, "batches", epoch).uniform(1)[:, 0]
    return [batches[i] for i in torch.argsort(shuffle, stable=True).tolist()]


class EpochBatches:
    """The `epoch_batches` of a set by epoch. Those of the last epoch asked for are kept.

    short_first: the first epoch, 0, is in order of length.
    """

    def __init__(self, ids: Tensor, lengths: np.ndarray, batch_size: int, seed: int, short_first: bool = False) -> None:
        self.ids, self.lengths, self.batch_size, self.seed = ids, lengths, batch_size, seed
        self.short_first = short_first
        self._last: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, epoch: int) -> list[list[int]]:
        if self._last[0] != epoch:
            short_first = self.short_first and epoch == 0
            batches = epoch_batches(self.ids, self.lengths, self.batch_size, self.seed, epoch, short_first)
            self._last = (epoch, batches)
        return self._last[1]
