"""Configuration that all modalities share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from irl.objective import Distance, IRLLoss
from irl.objective.smoothness import METHODS


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

    def lr_at(self, step: int) -> float:
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


def without_runtime_keys(resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration less what may change between a run and its resumption."""
    train = resolved.get("train", {})
    # Where the best evaluations are averaged, it matters when they are.
    kept = {"eval_every"} if train.get("average") else set()
    return {**resolved, "train": {k: v for k, v in train.items() if k in kept or k not in RUN_KEYS}}
