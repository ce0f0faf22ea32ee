"""Image classification: what a step and an evaluation mean for the wide residual network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.errors import UserError
from irl.core.fingerprint import check_inputs
from irl.core.output import Output
from irl.core.rng import Keys
from irl.models.wide_resnet import STRIDE, WideResNet
from irl.noise.adversarial import Attack, attacked
from irl.objective import Terms
from irl.objective.covariance import Isotropic, Sigma
from irl.objective.smoothness import lambda_r, omega_r
from irl.training.distributed import Shard
from irl.training.layer_stats import LayerStats
from irl.training.running_covariance import NoiseCovariance
from irl.training.task import BatchSpec, Phase, Step, Task
from irl.vision.config import VisionConfig
from irl.vision.data import Batch, Statistics, VisionData


class VisionStep(Step):
    def __init__(self, model: WideResNet, config: VisionConfig, attack: Attack | None, size: Sequence[int]) -> None:
        super().__init__(model, config.objective.build(), config.objective.ema)
        self.attack, self.seed, self.smoothness = attack, config.seed, config.smoothness
        if self.smoothness.used and self.smoothness.sigma != "isotropic":
            diagonal = self.smoothness.sigma == "diagonal"
            self.running = NoiseCovariance((3, *size), self.smoothness.rate, diagonal)

    def copies(self, batch: Batch, step: int, stream: str = "attack") -> list[Tensor]:
        """The noisy copies of a batch. Those of an attack, which depend on the model too, are made here."""
        if not batch.attacked:
            return batch.noisy
        assert self.attack is not None and batch.clean is not None
        keys = [Keys(batch.ids, self.seed, stream, step, copy) for copy in range(1, batch.attacked + 1)]
        return [self.attack.apply(batch.clean, batch.y, self.model, k) for k in keys]

    def forward(self, batch: Batch, phase: Phase, step: int) -> Terms:
        # Images without labels come last: their logits enter no task loss, their hidden states the distance.
        size, labels = batch.totals
        loss = lambda view: (  # noqa: E731
            F.cross_entropy(view.logits[: len(batch.y)], batch.y, reduction="sum") / labels
        )
        noisy = self.copies(batch, step)
        targets = self.targets(batch.clean, phase, step)
        terms = self.objectives[phase](self.model, batch.clean, noisy, loss, step, size, targets=targets)
        return self.smooth(terms, batch, noisy) if self.smoothness.used and phase == "paired" else terms

    def smooth(self, terms: Terms, batch: Batch, noisy: list[Tensor]) -> Terms:
        """The same with the terms of smoothness added. They belong to each image, so batch norm is in eval mode."""
        c, labels = self.smoothness, batch.totals.targets
        assert batch.clean is not None
        x = batch.clean[: len(batch.y)]
        sigma: Sigma = Isotropic(c.std)
        if c.sigma != "isotropic":
            self.running.update(x, noisy[0][: len(batch.y)])
            sigma = self.running.sigma()
        extra, total = {**terms.extra}, terms.total
        with attacked(self.model, eval_mode=True):
            if c.lambda_r:
                found = lambda_r(self.model, x, sigma, c.method, c.draws, c.layers, c.from_layer)
                weights = c.layers or dict.fromkeys(found, 1.0)
                sums = [weights[name] * (value.sum() / labels) for name, value in found.items()]
                extra["lambda_r"] = torch.stack(sums).sum()
                total = total + c.lambda_r * extra["lambda_r"]
            if c.omega_r:
                extra["omega_r"] = omega_r(self.model, x, batch.y, sigma, c.method, c.draws).sum() / labels
                total = total + c.omega_r * extra["omega_r"]
        return terms._replace(total=total, extra=extra)


class VisionTask(Task):
    def __init__(self, config: VisionConfig, shard: Shard = Shard()) -> None:
        self.config, self.shard = config, shard
        self.statistics = Statistics.read(Path(config.statistics))
        self.train = VisionData(config.train_set, config, self.statistics, "train", shard)
        check_inputs(Path(config.statistics), "run stage 3 again", train_set=self.train.digest)
        self.dev = VisionData(config.dev_set, config, self.statistics, "dev")
        if self.dev.classes != self.train.classes:
            raise UserError(f"{config.dev_set}: has other classes than {config.train_set}")
        torch.manual_seed(config.seed)
        model = build_model(config, len(self.train.classes))
        attack = Attack(config.attack, self.statistics.mean, self.statistics.std) if config.attack.kind else None
        self.module = VisionStep(model, config, attack, self.train.size)
        # Attacks draw on the CPU; the first update of a running covariance, or of a teacher, differs from later ones.
        self.recordable = not (config.attack.kind or config.smoothness.used or config.objective.ema)
        self._check_batch_norm()

    def _check_batch_norm(self) -> None:
        """Raises UserError where batch norm would have a single value in each channel to normalise."""
        c, size = self.config, self.train.size
        own = c.train.batch_size // self.shard.world_size
        rows = [own] if c.attack.kind and not c.attack.eval_mode else []
        phases: dict[Phase, int] = {"clean": c.train.clean_updates, "paired": c.train.updates - c.train.clean_updates}
        for phase in (phase for phase, updates in phases.items() if updates):
            spec = self.spec(0, phase)
            further = c.unlabelled // self.shard.world_size if spec.noisy else 0
            rows.append((own + further) * (spec.clean + spec.noisy))
        if min(rows) * math.prod(-(-side // STRIDE) for side in size) < 2:
            raise UserError(
                f"train.batch_size {c.train.batch_size}: images of {size[1]}x{size[0]} leave one value in each channel "
                "for batch norm, which needs two; use larger batches or images"
            )

    def copies(self, phase: Phase) -> int:
        """In the paired phase a running covariance needs one noisy copy, even if no other term does."""
        smoothness = self.config.smoothness
        running = phase == "paired" and smoothness.used and smoothness.sigma != "isotropic"
        return super().copies(phase) or int(running)

    def batches_in(self, epoch: int) -> int:
        return self.train.batches

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterator[Batch]:
        """Batches are made on the device that holds the set: workers would have nothing to do."""
        self.train.to(self.device)
        for spec in specs:
            yield self.train.make(epoch, spec)

    def measure(self, stats: LayerStats) -> None:
        """Loss and errors, and, where training draws noise, the same on one fixed noisy copy, and for each layer the
        relative L2 and cosine distances between the two, the clean norm, and the effective rank."""
        module, objective = self.module, self.module.objectives["paired"]
        self.dev.to(self.device)
        spec = BatchSpec(0, True, 1 if objective.needs_noisy else 0)
        for rows in self.shard.take(torch.arange(len(self.dev.labels)).split(EVALUATED)):
            batch = self.dev.views(rows, 0, spec, len(rows))
            views: list[Output] = [module.model(x) for x in [batch.clean, *module.copies(batch, 0, "attack/dev")]]
            for name, view in zip(("clean", "noisy"), views):
                stats.add(f"loss/{name}", float(F.cross_entropy(view.logits, batch.y, reduction="sum")), len(rows))
                stats.add(f"error/{name}", float((view.logits.argmax(1) != batch.y).sum()), len(rows))
            if len(views) > 1:
                stats.compare(views[0], views[1], len(rows))

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint needs beside its weights to classify images."""
        statistics = {name: values.tolist() for name, values in self.statistics._asdict().items()}
        return {"classes": self.train.classes, **statistics}


EVALUATED = 250  # images at once


def build_model(config: VisionConfig, classes: int) -> WideResNet:
    model = WideResNet(classes, config.model)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        model.compile()
    return model
