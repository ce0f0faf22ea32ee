"""The interface between the training loop and a modality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable, Literal, NamedTuple, Protocol

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


# The clean phase comes first and is the same for every method. A plain string: Fabric's precision plugins walk through
# the arguments of a module, and refuse frozen dataclasses.
Phase = Literal["clean", "paired"]


def objectives_of(objective: IRLLoss) -> dict[Phase, IRLLoss]:
    """The objective of each phase, where `objective` is that of the paired one."""
    return {"clean": objective.clean_only(), "paired": objective}


class BatchSpec(NamedTuple):
    """One batch of one epoch: its number, whether it has the clean view, and its number of noisy copies."""

    batch: int
    clean: bool
    noisy: int


class BaseTask:
    """Defaults of a task: batches are independent of each other, and the task loss on dev selects checkpoints."""

    config: Any
    shard: Shard  # this process's shard of every batch
    module: Any  # with `objectives`, by phase

    def spec(self, batch: int, phase: Phase) -> BatchSpec:
        return BatchSpec(batch, self.module.objectives[phase].needs_clean, self.copies(phase))

    def copies(self, phase: Phase) -> int:
        """Number of noisy copies in a batch of this phase."""
        copies: int = self.config.objective.copies
        return copies if self.module.objectives[phase].needs_noisy else 0

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """The weighted task losses, without the distance, by which methods would select different kinds of weights."""
        weights = {"loss/clean": self.config.objective.alpha, "loss/noisy": self.config.objective.beta}
        return sum(weight * dev[name].mean for name, weight in weights.items() if weight)

    def hidden_state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass

    def gather_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return state

    def shard_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return state


class Task(Protocol):
    """One modality in the training loop. Of several processes each has its shard of every batch.

    module(batch, phase, step) returns the `Terms` of a batch; the loss lies inside it, so that precision plugins and
    DDP see it. phase: "clean" or "paired". step: updates done since that phase began.
    """

    module: nn.Module

    def spec(self, batch: int, phase: Phase) -> BatchSpec:
        """The views of batch number `batch` in this phase."""
        ...

    def batches_in(self, epoch: int) -> int: ...

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterable[Any]: ...

    def evaluate(self) -> dict[str, Stat]:
        """Sums on the dev set by name, the same in all processes."""
        ...

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """Dev loss used to select and average checkpoints, from the sums of `evaluate`."""
        ...

    def hidden_state(self) -> dict[str, Tensor]:
        """State that this process carries from one batch to the next, such as that of a language model."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a hidden state of this process."""
        ...

    def gather_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The hidden state of all processes, the same for any number of them, for the checkpoint."""
        ...

    def shard_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's shard of a gathered hidden state."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """Plain values that evaluation needs beside weights and configuration, such as the vocabulary."""
        ...
