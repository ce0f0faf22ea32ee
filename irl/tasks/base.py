"""What the training loop needs of a task, and the configuration that all tasks share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Iterable, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from irl.objective import Distance, IRLLoss
from irl.objective.smoothness import METHODS
from irl.processes import Part


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of IRLLoss (see there) and the number of noisy copies. distance: weights by name."""

    alpha: float = 1.0
    beta: float = 0.0
    gamma: float = 0.0
    distance: dict[str, float] = field(default_factory=lambda: {"l2": 0.1, "cosine": 1.0})
    layers: dict[str, float] | None = None
    from_layer: str | None = None
    pairs: str = "clean"
    stop_grad: str = "none"
    over: str = "frame"
    warmup: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies must be at least 1, got {self.copies}")
        if self.pairs in ("noisy", "all") and self.gamma > 0 and self.copies < 2:
            raise ValueError(f"pairs {self.pairs!r} needs at least 2 copies, got {self.copies}")
        self.build()

    def build(self) -> IRLLoss:
        settings = {name: getattr(self, name) for name in IRLLoss.__dataclass_fields__ if name != "distance"}
        return IRLLoss(distance=Distance.from_dict(self.distance), **settings)


SIGMAS = ("isotropic", "diagonal", "full")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# By name, each with its options; Adadelta with the constants of ESPnet's recipes, where its learning rate is 1.
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adadelta": (torch.optim.Adadelta, {"rho": 0.95, "eps": 1e-8}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}
DECAYS = ("linear", "cosine", "steps", "plateau", "none")
ACCELERATORS = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class SmoothnessConfig:
    """Terms on the clean view alone, beside the paired ones or instead of them, by their weights (see
    irl.objective.smoothness): lambda_r, of the layers by their weights, and omega_r; 0 is none.

    sigma: covariance of the noise, "isotropic" with standard deviation std on normalised inputs, or the running
    "diagonal" or "full" second moment of the noise that training draws, updated at this rate. method, draws: of the
    estimates.
    """

    lambda_r: float = 0.0
    omega_r: float = 0.0
    layers: dict[str, float] | None = None
    from_layer: str | None = None
    sigma: str = "isotropic"
    std: float = 1.0
    rate: float = 0.1
    method: str = "forward"
    draws: int = 1

    def __post_init__(self) -> None:
        for name in ("lambda_r", "omega_r", "std"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        for name, allowed in (("sigma", SIGMAS), ("method", METHODS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must be in (0, 1], got {self.rate}")

    @property
    def used(self) -> bool:
        return self.lambda_r > 0 or self.omega_r > 0


@dataclass(frozen=True)
class TrainConfig:
    """The training loop. One update is one optimiser step over `accumulate` batches.

    clean_updates: length of the clean phase at the beginning, the same for every method. The learning rate rises
    linearly over warmup_updates and, by decay, falls to 0 at the last update ("linear", "cosine"), is multiplied by
    decay_factor at each of the milestones ("steps") or after every evaluation on dev that is no better than the best,
    to whose weights training then returns ("plateau"), or stays ("none").
    eval_every: updates between evaluations, 0 for none but the last, -1 for the end of every epoch.
    average: number of evaluations after the clean phase, those of lowest loss, whose weights are averaged at the end.
    batch_size: of all processes together, where there are several.
    cuda_graphs: on a GPU, passes are recorded and played back, which is faster where they consist of many small
    operations; for tasks whose batches are all alike, and one process.
    threads: of torch on a CPU, 0 to leave them; results are equal to the bit only for equal numbers of threads, and of
    processes.
    """

    updates: int = 1000
    clean_updates: int = 0
    batch_size: int = 8
    accumulate: int = 1
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    warmup_updates: int = 200
    decay: str = "linear"
    milestones: tuple[int, ...] = ()
    decay_factor: float = 0.2
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int = 0
    workers: int = 0
    cuda_graphs: bool = False
    log_every: int = 50
    eval_every: int = 0
    save_every: int = 500
    max_bad_steps: int = 20
    average: int = 0

    def __post_init__(self) -> None:
        if min(self.updates, self.batch_size, self.accumulate, self.log_every, self.save_every, self.max_bad_steps) < 1:
            raise ValueError(
                "updates, batch_size, accumulate, log_every, save_every and max_bad_steps must be at least 1"
            )
        if min(self.clean_updates, self.warmup_updates, self.threads, self.workers) < 0 or self.eval_every < -1:
            raise ValueError("clean_updates, warmup_updates, threads and workers must not be negative, nor eval_every")
        if self.clean_updates > self.updates:
            raise ValueError(f"clean_updates {self.clean_updates} exceeds updates {self.updates}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.average < 0 or self.average and not (self.eval_every and self.clean_updates < self.updates):
            raise ValueError(
                f"average must not be negative, and needs eval_every and updates that are not clean, got {self.average}"
            )
        if self.cuda_graphs and (self.accumulate > 1 or self.precision == "16-mixed"):
            raise ValueError("cuda_graphs is for accumulate 1, and not for precision 16-mixed")
        if self.accelerator not in ACCELERATORS:
            raise ValueError(f"accelerator must be one of {', '.join(ACCELERATORS)}, got {self.accelerator!r}")
        if min(self.weight_decay, self.clip_norm) < 0:
            raise ValueError("weight_decay and clip_norm must not be negative; clip_norm 0 is no clipping")
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {', '.join(DECAYS)}, got {self.decay!r}")
        if (self.decay == "steps") != bool(self.milestones) or any(m < 1 for m in self.milestones):
            raise ValueError(f"milestones: decay steps, and no other, needs some, 1 at least, got {self.milestones}")
        if self.decay == "plateau" and not (self.eval_every and self.average):
            raise ValueError("decay plateau needs eval_every, and average (1 for the best weights)")
        if not 0 < self.decay_factor <= 1:
            raise ValueError(f"decay_factor must be in (0, 1], got {self.decay_factor}")

    def rate_at(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_updates) if self.warmup_updates else 1.0
        fall = 1.0
        if self.decay == "linear":
            fall = 1.0 - step / self.updates
        elif self.decay == "cosine":
            fall = 0.5 * (1 + math.cos(math.pi * step / self.updates))
        elif self.decay == "steps":
            fall = self.decay_factor ** sum(step >= m for m in self.milestones)
        return self.learning_rate * min(rise, fall)


# Keys of TrainConfig that may change between a run and its resumption: they do not touch the weights.
RUN_KEYS = ("workers", "log_every", "eval_every", "save_every", "max_bad_steps")


def lasting(resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration less what may change between a run and its resumption."""
    train = resolved.get("train", {})
    # Where the best evaluations are averaged, it matters when they are.
    kept = {"eval_every"} if train.get("average") else set()
    return {**resolved, "train": {k: v for k, v in train.items() if k in kept or k not in RUN_KEYS}}


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


class Plan(NamedTuple):
    """One batch of one epoch: its number, and what the step that it belongs to looks at."""

    batch: int
    clean: bool
    noisy: int


class BaseTask:
    """What most tasks share: batches know nothing of each other, and a run is judged by its own task loss."""

    config: Any
    part: Part  # what this process takes of every batch
    recordable = False  # whether passes over batches of one shape do the same on the device

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

    @property
    def recordable(self) -> bool:
        """Whether passes over batches of one shape do the same operations on the device, and no others."""
        ...

    def carried(self) -> dict[str, Tensor]:
        """What goes on from one batch to the next in this process: states of a language model."""
        ...

    def carry(self, state: dict[str, Tensor]) -> None: ...

    def gather(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        """What all processes carry, the same however many there are, for the checkpoint."""
        ...

    def own(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of what was gathered."""
        ...

    def copies(self, objective: IRLLoss) -> int:
        """How many noisy copies a batch has under this objective, the run's own or that of its clean phase."""
        ...

    def batches_in(self, epoch: int) -> int: ...

    def loader(self, epoch: int, plans: list[Plan], workers: int) -> Iterable[Any]: ...

    def evaluate(self) -> dict[str, Stat]: ...

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """Of an evaluation on dev: what the weights that a run keeps, and averages, are chosen by."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """Plain values that decoding needs beside weights and configuration, such as the vocabulary."""
        ...
