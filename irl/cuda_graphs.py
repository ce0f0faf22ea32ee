"""Forward and backward passes of updates, recorded as CUDA graphs and played back. Where a pass consists of many small
operations, a GPU otherwise waits for a CPU that launches them one by one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Iterator, NamedTuple

import torch
from torch import Tensor

from irl.tasks.base import Task
from irl.types import tree_map

# Names and values of the terms of a batch, whose gradients are then there.
Found = tuple[list[str], Tensor]
# Passes of one kind that are done as usual first: libraries choose their kernels, a compiler is done.
BEFORE = 3


class Recorded(NamedTuple):
    """A pass that reads `inputs` and, of what the task carries from batch to batch, `before`; it writes the rest."""

    play: Callable[[], None]
    inputs: list[Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    gradients: list[Tensor | None]
    found: Found


class Recorder:
    """Calls do what `run` does of a batch, from gradients of None. What it found, and gradients, are overwritten by the
    next call."""

    def __init__(self, run: Callable[[Any], Found], task: Task) -> None:
        self.run, self.task = run, task
        self.parameters = list(task.module.parameters())
        self.seen: Counter[Any] = Counter()
        self.recorded: dict[Any, Recorded] = {}

    def __call__(self, batch: Any, phase: Any) -> Found:
        """phase: what else a pass depends on; None for what comes but once."""
        if phase is None:
            return self.run(batch)
        tensors = list(_tensors(batch))
        carried = self.task.carried()
        rest = tree_map(lambda x: (tuple(x.shape), x.dtype), batch)
        key = str((phase, rest, {name: tuple(x.shape) for name, x in carried.items()}))
        if key not in self.recorded:
            self.seen[key] += 1
            if self.seen[key] <= BEFORE:
                return self.run(batch)
            self.recorded[key] = self._record(batch)
        made = self.recorded[key]
        for into, x in zip([*made.inputs, *made.before.values()], [*tensors, *carried.values()], strict=True):
            into.copy_(x)
        made.play()
        for parameter, gradient in zip(self.parameters, made.gradients):
            parameter.grad = gradient
        self.task.carry(made.after)
        return made.found

    def _record(self, batch: Any) -> Recorded:
        own = tree_map(torch.clone, batch)
        before = {name: x.clone() for name, x in self.task.carried().items()}
        self.task.carry(before)
        found, play = capture(lambda: self.run(own))
        gradients = [parameter.grad for parameter in self.parameters]
        return Recorded(play, list(_tensors(own)), before, self.task.carried(), gradients, found)


def usable(device: torch.device) -> bool:
    return device.type == "cuda"


def capture(function: Callable[[], Found]) -> tuple[Found, Callable[[], None]]:
    """What it will have found whenever the second is called, which does all that it did on the GPU."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function()
    return found, graph.replay


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _tensors(part)
