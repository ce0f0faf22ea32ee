"""Forward and backward passes of updates, recorded as CUDA graphs and played back. Where a pass consists of many small
operations, a GPU otherwise waits for a CPU that launches them one by one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, NamedTuple

import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.output import tensors_of, tree_map
from irl.training.task import Task

# Names of the terms of a batch, and float64 values in the same order.
Values = tuple[list[str], Tensor]
# Passes of one kind that run as usual first: libraries choose their kernels, and a compiler finishes.
BEFORE = 3


class Recorded(NamedTuple):
    """A pass. It reads `inputs` and `before`, the hidden state of the task, and writes the new state `after`, gradients
    and values, each time in the same memory."""

    play: Callable[[], None]
    inputs: list[Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    gradients: list[Tensor | None]
    values: Values


class Recorder:
    """A call does what `run` does with a batch, and begins with gradients of None. The next call overwrites the values
    and gradients of this one."""

    def __init__(self, run: Callable[[Any], Values], task: Task) -> None:
        self.run, self.task = run, task
        self.parameters = list(task.module.parameters())
        self.seen: Counter[Any] = Counter()
        self.recorded: dict[Any, Recorded] = {}

    def __call__(self, batch: Any, stage: Any) -> Values:
        """stage: what else a pass depends on; None for what comes once only, which is not recorded."""
        if stage is None:
            return self.run(batch)
        tensors = tensors_of(batch)
        hidden = self.task.hidden_state()
        rest = tree_map(lambda x: (tuple(x.shape), x.dtype), batch)
        key = str((stage, rest, {name: tuple(x.shape) for name, x in hidden.items()}))
        if key not in self.recorded:
            self.seen[key] += 1
            if self.seen[key] <= BEFORE:
                return self.run(batch)
            self.recorded[key] = self._record(batch)
        made = self.recorded[key]
        for into, x in zip([*made.inputs, *made.before.values()], [*tensors, *hidden.values()], strict=True):
            into.copy_(x)
        made.play()
        for parameter, gradient in zip(self.parameters, made.gradients):
            parameter.grad = gradient
        self.task.load_state(made.after)
        return made.values

    def _record(self, batch: Any) -> Recorded:
        own = tree_map(torch.clone, batch)
        before = {name: x.clone() for name, x in self.task.hidden_state().items()}
        self.task.load_state(before)
        found, play = capture(lambda: self.run(own))
        gradients = [parameter.grad for parameter in self.parameters]
        return Recorded(play, tensors_of(own), before, self.task.hidden_state(), gradients, found)


def recorder_for(settings: Any, run: Callable[[Any], Values], task: Task, device: torch.device) -> Recorder | None:
    """A recorder of `run`, if the configuration asks for one and the device has CUDA graphs; else None. Raises
    UserError where passes cannot be recorded."""
    if not (settings.train.cuda_graphs and usable(device)):
        return None
    processes = task.shard.world_size
    if not task.recordable or processes > 1:
        raise UserError(
            "train.cuda_graphs: expected one process, and images without attacks and smoothness, or text; "
            f"found {processes} process{'es' if processes > 1 else ''}, task {settings.task}"
        )
    return Recorder(run, task)


def usable(device: torch.device) -> bool:
    return device.type == "cuda"


def capture(function: Callable[[], Values]) -> tuple[Values, Callable[[], None]]:
    """Record the function: what it returned, and a function that replays its work on the GPU into the same tensors."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function()
    return found, graph.replay
