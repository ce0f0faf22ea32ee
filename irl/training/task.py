"""The interface between the training loop and a modality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable, NamedTuple, Protocol

from torch import Tensor, nn

from irl.objective import IRLLoss
from irl.training.distributed import Shard


@dataclass(frozen=True)
class Stat:
    """A sum and the number of things summed: divided once, at the end (law 5)."""

    total: float
    count: float

    def __add__(self, other: Stat) -> Stat:
        return Stat(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan


class BatchSpec(NamedTuple):
    """One batch of one epoch: its number, and what the step that it belongs to looks at."""

    batch: int
    clean: bool
    noisy: int


class BaseTask:
    """What most tasks share: batches know nothing of each other, and a run is judged by its own task loss."""

    config: Any
    shard: Shard  # what this process takes of every batch

    def copies(self, objective: IRLLoss) -> int:
        return self.config.objective.copies if objective.needs_noisy else 0

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """Without the distance, which would favour weights of another kind than those of the other methods."""
        weights = {"loss/clean": self.config.objective.alpha, "loss/noisy": self.config.objective.beta}
        return sum(weight * dev[name].mean for name, weight in weights.items() if weight)

    def carried(self) -> dict[str, Tensor]:
        return {}

    def carry(self, state: dict[str, Tensor]) -> None:
        pass

    def gather(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        return carried

    def own(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        return carried


class Task(Protocol):
    """One modality. `module` computes the terms of a batch, so that precision wrappers see the loss inside it.

    Of several processes each has its part of every batch; `evaluate` finds the same in all of them.
    """

    module: nn.Module

    def carried(self) -> dict[str, Tensor]:
        """What goes on from one batch to the next in this process: states of a language model."""
        ...

    def carry(self, state: dict[str, Tensor]) -> None: ...

    def gather(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        """What all processes carry, the same however many there are, for the checkpoint."""
        ...

    def own(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of what was all_gather."""
        ...

    def copies(self, objective: IRLLoss) -> int:
        """How many noisy copies a batch has under this objective, the run's own or that of its clean phase."""
        ...

    def batches_in(self, epoch: int) -> int: ...

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterable[Any]: ...

    def evaluate(self) -> dict[str, Stat]: ...

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """Of an evaluation on dev: what the weights that a run keeps, and averages, are chosen by."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """Plain values that decoding needs beside weights and configuration, such as the vocabulary."""
        ...
