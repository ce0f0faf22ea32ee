"""The interface between the training loop and a modality."""

from __future__ import annotations

from typing import Any, Iterable, Literal, NamedTuple

import torch
from torch import Tensor, nn

from irl.core.errors import UserError
from irl.core.output import Output
from irl.models.ema import EMA
from irl.objective import IRLLoss
from irl.training.distributed import Shard
from irl.training.layer_stats import LayerStats, Stat

# The clean phase comes first and is the same for every method. A plain string: Fabric's precision plugins walk through
# the arguments of a module, and refuse frozen dataclasses.
Phase = Literal["clean", "paired"]


class BatchSpec(NamedTuple):
    """One batch of one epoch: its number, whether it has the clean view, and its number of noisy copies."""

    batch: int
    clean: bool
    noisy: int


class Step(nn.Module):
    """A model with its loss inside, so that precision plugins and DDP see the loss. objective: of the paired phase.
    ema: decay of a teacher, 0 for none.

    step(batch, phase, number) returns the `Terms` of a batch. number: updates done since that phase began.
    """

    def __init__(self, model: Any, objective: IRLLoss, ema: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.objectives: dict[Phase, IRLLoss] = {"clean": objective.clean_only(), "paired": objective}
        self.teacher: EMA | None = None
        if ema:
            self.teacher = EMA(model, ema)

    def targets(self, clean: Any, phase: Phase, step: int) -> Output | None:
        """The teacher's output for the clean view, where there is a teacher. It becomes the model when the paired phase
        begins, and then follows it once each update."""
        if self.teacher is None or phase == "clean":
            return None
        self.teacher.follow(self.model, step)
        return self.run_teacher(self.teacher, clean)

    def run_teacher(self, teacher: EMA, clean: Any) -> Output:
        return teacher(clean)


class Task:
    """One modality in the training loop, with what holds unless a modality says otherwise: batches are independent of
    each other, and the task loss on dev selects checkpoints. Of several processes each has its shard of every batch."""

    config: Any
    shard: Shard
    module: Any  # a Step
    # Whether passes over batches of one shape do the same operations on the device, and no others.
    recordable = False

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.module.parameters()).device
        return device

    def spec(self, batch: int, phase: Phase) -> BatchSpec:
        """The views of batch number `batch` in this phase."""
        return BatchSpec(batch, self.module.objectives[phase].needs_clean, self.copies(phase))

    def copies(self, phase: Phase) -> int:
        """Number of noisy copies in a batch of this phase."""
        copies: int = self.config.objective.copies
        return copies if self.module.objectives[phase].needs_noisy else 0

    def batches_in(self, epoch: int) -> int:
        raise NotImplementedError

    def batches_of(self, epoch: int) -> int:
        """`batches_in`. Raises UserError where they are too few for one update."""
        count, accumulate = self.batches_in(epoch), self.config.train.accumulate
        if count < accumulate:
            raise UserError(f"accumulate {accumulate} exceeds the {count} batches there are")
        return count

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterable[Any]:
        raise NotImplementedError

    def measure(self, stats: LayerStats) -> None:
        """Add the sums of this process's shard of the dev set. Called in eval mode, without gradients."""
        raise NotImplementedError

    @torch.no_grad()
    def evaluate(self) -> dict[str, Stat]:
        """Sums on the dev set by name, the same in all processes."""
        stats = LayerStats()
        self.module.eval()
        self.measure(stats)
        self.module.train()
        return stats.result()

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """Dev loss used to select and average checkpoints, from the sums of `evaluate`: the weighted task losses,
        without the distance, by which methods would select different kinds of weights."""
        weights = {"loss/clean": self.config.objective.alpha, "loss/noisy": self.config.objective.beta}
        return sum(weight * dev[name].mean for name, weight in weights.items() if weight)

    def hidden_state(self) -> dict[str, Tensor]:
        """State that this process carries from one batch to the next, such as that of a language model."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a hidden state of this process."""

    def gather_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The hidden state of all processes, the same for any number of them, for the checkpoint."""
        return state

    def shard_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's shard of a gathered hidden state."""
        return state

    def extra_state(self) -> dict[str, Any]:
        """Plain values that evaluation needs beside weights and configuration, such as the vocabulary."""
        raise NotImplementedError
