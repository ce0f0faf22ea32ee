"""Configuration that all modalities share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Sequence

import torch

from irl.core.types import BelowOne, Checked, Count, FieldError, Natural, NonNegative, Positive, Rate, at_least
from irl.objective import Distance, IRLLoss
from irl.objective.irl_loss import Normalise, Over, Pairs, StopGrad
from irl.objective.smoothness import Method


@dataclass(frozen=True)
class ObjectiveConfig(Checked):
    """Settings of IRLLoss (see there) and the number of noisy copies. distance: weights by name. ema: decay of a
    teacher (irl.EMA), 0 for none. It is the model as the paired phase begins, then the average of its weights; its
    activations of the clean view take the place of the model's own in the distance."""

    alpha: NonNegative = 1.0
    beta: NonNegative = 0.0
    gamma: NonNegative = 0.0
    distance: dict[str, float] = field(default_factory=lambda: {"l2": 0.1, "cosine": 1.0})
    layers: dict[str, NonNegative] | None = None
    from_layer: str | None = None
    pairs: Pairs = "clean"
    stop_grad: StopGrad = "none"
    over: Over = "frame"
    normalise: Normalise = "none"
    variance: NonNegative = 0.0
    covariance: NonNegative = 0.0
    warmup: Natural = 0
    copies: Count = 1
    ema: BelowOne = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ema and not (self.gamma > 0 and self.pairs in ("clean", "all") and self.stop_grad != "noisy"):
            raise ValueError(
                "ema gives the clean side of pairs: it needs gamma > 0 and pairs clean or all, and gradients"
            )
        if self.pairs in ("noisy", "all") and self.gamma > 0 and self.copies < 2:
            raise ValueError(f"pairs {self.pairs!r} needs at least 2 copies, got {self.copies}")
        self.build()

    def build(self) -> IRLLoss:
        # How the model runs is for foreign models.
        own = IRLLoss.__dataclass_fields__.keys() - {"distance", "passes", "batch_norm"}
        settings = {name: getattr(self, name) for name in own}
        return IRLLoss(distance=Distance.from_dict(self.distance), **settings)

    def check_layers(self, names: Sequence[str], hidden: Sequence[str]) -> None:
        """Refuses unknown layers before any training, not at the end of the clean phase. names: all that can be
        compared; hidden: those compared by default."""
        try:
            self.build().layer_weights(names, hidden)
        except ValueError as error:
            raise FieldError(
                "objective.from_layer" if self.layers is None else "objective.layers", str(error)
            ) from None


# With their options; Adadelta with the constants of ESPnet's recipes, where its learning rate is 1.
Optimizer = Literal["adam", "adadelta", "adamw", "sgd", "nesterov"]
OPTIMIZERS: dict[Optimizer, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adadelta": (torch.optim.Adadelta, {"rho": 0.95, "eps": 1e-8}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@dataclass(frozen=True)
class SmoothnessConfig(Checked):
    """Terms on the clean view alone, beside the paired ones or instead of them, by their weights (see
    irl.objective.smoothness): lambda_r, of the layers by their weights, and omega_r; 0 is none.

    sigma: covariance of the noise, "isotropic" with standard deviation std on normalised inputs, or the running
    "diagonal" or "full" second moment of the noise that training draws, updated at this rate. method, draws: of the
    estimates.
    """

    lambda_r: NonNegative = 0.0
    omega_r: NonNegative = 0.0
    layers: dict[str, NonNegative] | None = None
    from_layer: str | None = None
    sigma: Literal["isotropic", "diagonal", "full"] = "isotropic"
    std: NonNegative = 1.0
    rate: Rate = 0.1
    method: Method = "forward"
    draws: Count = 1

    @property
    def used(self) -> bool:
        return self.lambda_r > 0 or self.omega_r > 0


@dataclass(frozen=True)
class TrainConfig(Checked):
    """The training loop. One update is one optimiser step over `accumulate` batches.

    clean_updates: length of the clean phase at the beginning, the same for every method; below 1 it is a share of the
    updates, such as 0.5, and becomes their number. The learning rate rises linearly over warmup_updates and, by decay,
    falls to 0 at the last update ("linear", "cosine"), is multiplied by decay_factor at each of the milestones
    ("steps") or after every evaluation on dev that is no better than the best, to whose weights training then returns
    ("plateau"), or stays ("none").
    eval_every: updates between evaluations, 0 for none but the last, -1 for the end of every epoch.
    average: number of evaluations after the clean phase, those of lowest loss, whose weights are averaged at the end.
    batch_size: of all processes together, where there are several.
    precision: "auto" is bf16-mixed on a device that computes in bfloat16 (`machine.computes_bf16`), else 32-true.
    cuda_graphs: on a GPU, passes are recorded and played back, which is faster where they consist of many small
    operations. It needs one process, accumulate 1, and a modality whose batches are all alike.
    threads: of torch on a CPU, 0 to leave them; results are equal to the bit only for equal numbers of threads, and of
    processes.
    """

    updates: Count = 1000
    clean_updates: Natural = 0
    batch_size: Count = 8
    accumulate: Count = 1
    optimizer: Optimizer = "adam"
    learning_rate: Positive = 2e-3
    warmup_updates: Natural = 200
    decay: Literal["linear", "cosine", "steps", "plateau", "none"] = "linear"
    milestones: tuple[Count, ...] = ()
    decay_factor: Rate = 0.2
    weight_decay: NonNegative = 0.0
    clip_norm: NonNegative = 5.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    threads: Natural = 0
    workers: Natural = 0
    cuda_graphs: bool = False
    log_every: Count = 50
    eval_every: Annotated[int, at_least(-1)] = 0
    save_every: Count = 500
    max_bad_steps: Count = 20
    average: Natural = 0

    def __post_init__(self) -> None:
        share: Any = self.clean_updates
        if isinstance(share, float) and 0 < share < 1 and isinstance(self.updates, int):
            object.__setattr__(self, "clean_updates", round(share * self.updates))
        super().__post_init__()
        if self.clean_updates > self.updates:
            raise ValueError(
                f"clean_updates {self.clean_updates} exceeds updates {self.updates}; "
                "train.clean_updates=0.5 is half of them, whatever they are"
            )
        if self.average and not (self.eval_every and self.clean_updates < self.updates):
            raise ValueError(f"average needs eval_every and updates that are not clean, got {self.average}")
        if (self.decay == "steps") != bool(self.milestones):
            raise ValueError(f"milestones: decay steps, and no other, needs some, got {list(self.milestones)}")
        if self.decay == "plateau" and not (self.eval_every and self.average):
            raise ValueError("decay plateau needs eval_every, and average (1 for the best weights)")
        if self.cuda_graphs and (self.accumulate > 1 or self.precision == "16-mixed"):
            raise ValueError(
                f"cuda_graphs needs accumulate 1 and a precision other than 16-mixed, got accumulate {self.accumulate} "
                f"and precision {self.precision}"
            )

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
RUN_KEYS = ("workers", "cuda_graphs", "log_every", "eval_every", "save_every", "max_bad_steps")


def without_runtime_keys(resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration less what may change between a run and its resumption."""
    train = resolved.get("train", {})
    # Where the best evaluations are averaged, it matters when they are.
    kept = {"eval_every"} if train.get("average") else set()
    return {**resolved, "train": {k: v for k, v in train.items() if k in kept or k not in RUN_KEYS}}
