"""The state of one run, its checkpoint, and resuming from it to the bit."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, TypeVar

import torch

from irl.core import config
from irl.core.errors import UserError
from irl.core.logging import logger
from irl.core.machine import device_name
from irl.core.provenance import commit, versions
from irl.training import checkpoint
from irl.training.best_checkpoints import BestCheckpoints
from irl.training.config import without_runtime_keys
from irl.training.layer_stats import Stat
from irl.training.modality import TRAINED_ON
from irl.training.registry import modality, saved_config
from irl.training.task import Phase, Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
PROGRESS = ("epoch", "batch", "step", "skipped", "seconds")


class RunState:
    """Everything that a run resumes from: weights, optimizer, hidden state of the task, and progress.

    step: updates done. epoch, batch: the epoch, and the batches consumed of it. skipped: updates left out because loss
    or gradient was not finite. seconds: of training; waited: seconds of it spent waiting for batches. lr_scale: factor
    on the learning rate, reduced by decay "plateau". best: dev losses of the best weights, which lie in EXP/best.
    averaged: their mean, once the run has ended. stats: sums since the last line of metrics.
    """

    def __init__(self, settings: Any, exp: Path, task: Task, optimizer: torch.optim.Optimizer, fabric: Fabric) -> None:
        self.config, self.exp, self.task, self.optimizer, self.fabric = settings, exp, task, optimizer, fabric
        self.path = exp / "checkpoint.pt"
        # One process writes and reports.
        self.first = fabric.global_rank == 0
        # Recorded at the start: the tree may change during the run.
        self.commit = commit()
        self.modality = modality(settings.task, str(exp))
        # By the first process: it may have to read all of the data.
        self.trained_on = self.from_first(lambda: self.modality.train_data(settings))
        self.step = self.epoch = self.batch = self.skipped = 0
        self.seconds = self.waited = 0.0
        self.lr_scale = 1.0
        self.best = BestCheckpoints(exp / "best", settings.train.average, self.first)
        self.averaged: dict[str, torch.Tensor] | None = None
        self.stats: dict[str, Stat] = {}

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """The phase of update `step`, and the number of that update within its phase, from 0."""
        clean = self.config.train.clean_updates
        return ("clean", step) if step < clean else ("paired", step - clean)

    def lr_at(self, step: int) -> float:
        """Learning rate of update `step`."""
        rate: float = self.config.train.lr_at(step)
        return rate * self.lr_scale

    def add(self, stats: dict[str, Stat]) -> None:
        """To the sums since the last line of metrics."""
        for name, stat in stats.items():
            self.stats[name] = self.stats.get(name, Stat(0, 0)) + stat

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, such as by reading a file, in all processes."""
        made: Any = make() if self.first else None
        return self.fabric.broadcast(made)  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        """The device, and the precision that train.precision "auto" is there."""
        return device_name(self.fabric.device, self.fabric.strategy.precision.precision)

    # Saving

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and plain values. All processes call it together."""
        return {
            "model": self.task.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            # State of the loss scaler of 16-mixed; empty for other precisions.
            "precision": self.fabric.strategy.precision.state_dict(),
            "config": config.to_dict(self.config),
            **{name: getattr(self, name) for name in PROGRESS},
            "waited": self.waited,
            "best": self.best.losses,
            "lr_scale": self.lr_scale,
            "hidden_state": self.task.gather_state(self.task.hidden_state()),
            **({"averaged": self.averaged} if self.averaged else {}),
            "stats": {name: [stat.total, stat.count] for name, stat in self.stats.items()},
            "commit": self.commit,
            "versions": versions(),
            "device": self.device,
            **self.trained_on,
            **self.task.extra_state(),
        }

    def save(self) -> None:
        """Write the checkpoint; return in all processes once it is on disk."""
        content = self.content()
        if self.first:
            checkpoint.save(self.path, content)
            self.best.prune()
        self.fabric.barrier()

    # Loading

    def resume(self, start: Path | None = None, anew: bool = False) -> None:
        """Go on from the run's own checkpoint, if there is one; else from `start`, the end of another run's clean
        phase, if this run has a clean phase. anew: move a run of another configuration or of other data aside, instead
        of refusing it. Raises UserError where a checkpoint is damaged or does not fit."""
        content = self.from_first(lambda: checkpoint.load_last(self.path))
        if content is not None and anew and self._set_aside(content):
            content = None
        if content is not None:
            self.load(self.path, content)
        elif start is not None and self.config.train.clean_updates:
            self.load(start, self.from_first(lambda: checkpoint.load(start)), start=True)

    def _set_aside(self, content: dict[str, Any]) -> bool:
        """Move what a run has left to EXP/old.N, all but its log, if its checkpoint does not fit this one."""
        try:
            self._check(self.path, content, start=False)
            return False
        except UserError as error:
            problem = str(error).partition(";")[0]
        if self.first:
            old = next(p for i in itertools.count(1) if not (p := self.exp / f"old.{i}").exists())
            old.mkdir()
            for item in list(self.exp.iterdir()):
                if item.name not in ("lock", "train.log") and not item.name.startswith("old."):
                    item.rename(old / item.name)
            logger.warning(f"{problem}; that run is now in {old}, and training begins anew")
        self.fabric.barrier()
        return True

    def load(self, path: Path, content: dict[str, Any], start: bool = False) -> None:
        """Take up the run of a checkpoint. start: it is the end of a clean phase, and its objective and noise may be
        others."""
        self._check(path, content, start)
        weights = content["model"]
        if start:
            # Tensors beside the model belong to terms of the paired phase, which starts with its own.
            own = self.task.module.state_dict()
            weights = {name: value for name, value in weights.items() if name.startswith("model.")}
            weights.update({name: value for name, value in own.items() if not name.startswith("model.")})
        checkpoint.load_weights(self.task.module, weights, path)
        self.optimizer.load_state_dict(content["optimizer"])
        self.fabric.strategy.precision.load_state_dict(content.get("precision", {}))
        for name in PROGRESS:
            setattr(self, name, content[name])
        self.waited, self.lr_scale = content.get("waited", 0.0), content.get("lr_scale", 1.0)
        self.averaged = content.get("averaged")
        self.best.resume(content.get("best", {}))
        self.task.load_state(self.task.shard_state(content.get("hidden_state", {})))
        self.stats = {name: Stat(*stat) for name, stat in content["stats"].items()}

    def _check(self, path: Path, content: dict[str, Any], start: bool) -> None:
        """Raises UserError where a checkpoint is of another task, configuration or data."""
        if content["config"].get("task") != self.config.task or "optimizer" not in content:
            raise UserError(f"{path}: not a checkpoint of a training run of task {self.config.task}")
        there, here = (without_runtime_keys(config.to_dict(c)) for c in (saved_config(content, path), self.config))
        ignored = self.modality.paired_keys if start else set()
        for key, old, new in differences(there, here):
            if key.split(".")[0] not in ignored:
                raise UserError(
                    f"{path}: was trained with {key} {json.dumps(old)}, this run has {json.dumps(new)}; "
                    "use another --exp, or --anew to move this run aside, or the same configuration"
                )
        was, now = (name.partition(", ")[2] or "32-true" for name in (content.get("device", "cpu"), self.device))
        if self.config.train.precision == "auto" and was != now:
            raise UserError(
                f"{path}: train.precision auto was {was} on {content['device']}, and is {now} on this machine; "
                "go on there, or use another --exp, or --anew to move this run aside"
            )
        clean = self.config.train.clean_updates
        if start and content["step"] != clean:
            raise UserError(f"{path}: is at update {content['step']}, but the clean phase of this run ends at {clean}")
        for key, value in {**self.trained_on, **self.task.extra_state()}.items():
            if key in TRAINED_ON and (not value or not content.get(key)):
                continue  # an older checkpoint does not tell
            # The clean phase draws no noise.
            if content.get(key) != value and not (start and key == "noise_data"):
                raise UserError(
                    f"{path}: was trained with other {key} than there is now; use another --exp, or --anew to move "
                    "this run aside"
                )


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old, new) wherever two configurations differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif old != new:
        yield prefix, old, new
