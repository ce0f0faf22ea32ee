"""The epoch that workers see: a number in shared memory."""

from __future__ import annotations

from operator import index
from typing import Any

import torch


class SharedEpoch:
    """An epoch that this process sets and its loader's workers read, those that live on from epoch to epoch too.

    Copies share it with their original. A pickle holds the value, but what a process hands to a worker that it spawns
    shares it.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._value = torch.tensor(epoch, dtype=torch.int64).share_memory_()

    def set(self, epoch: int) -> None:
        """Raises ValueError for what is not a whole number from 0 on."""
        self._value.fill_(as_epoch(epoch))

    def get(self) -> int:
        return int(self._value)

    def __deepcopy__(self, memo: Any) -> SharedEpoch:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._value = state["_value"].share_memory_()


def as_epoch(epoch: Any) -> int:
    """A plain int of any whole number from 0 on: draws depend on its type as well."""
    try:
        number = index(epoch)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"epoch: expected a whole number from 0 on, found {epoch!r}")
    return number
