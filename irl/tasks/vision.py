"""Image classification: what a step and an evaluation mean for the wide residual network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irl.errors import UserError
from irl.models.wide_resnet import WideResNet
from irl.noise.adversarial import Attack, attacked
from irl.objective import IRLLoss, Terms
from irl.objective.smoothness import Isotropic, RunningCovariance, Sigma, lambda_r, omega_r
from irl.processes import Part
from irl.random import Keys
from irl.tasks.base import BaseTask, Plan, Stat
from irl.tasks.measured import Measured
from irl.tasks.vision_data import Batch, Statistics, VisionConfig, VisionData
from irl.types import Output


class VisionStep(nn.Module):
    """The model with its loss inside, as the loop calls it."""

    def __init__(self, model: WideResNet, config: VisionConfig, attack: Attack | None, size: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.attack, self.seed, self.smoothness = attack, config.seed, config.smoothness
        if self.smoothness.used and self.smoothness.sigma != "isotropic":
            diagonal = self.smoothness.sigma == "diagonal"
            self.running = RunningCovariance((3, *size), self.smoothness.rate, diagonal)
        # Set by the loop before each step: Fabric's precision plugins walk through arguments, and refuse dataclasses.
        self.objective = IRLLoss.row("baseline")

    def copies(self, batch: Batch, step: int, stream: str = "attack") -> list[Tensor]:
        """The noisy copies of a batch. Those of an attack, which depend on the model too, are made here."""
        if not batch.attacked:
            return batch.noisy
        assert self.attack is not None and batch.clean is not None
        keys = [Keys(batch.ids, self.seed, stream, step, copy) for copy in range(1, batch.attacked + 1)]
        return [self.attack.apply(batch.clean, batch.y, self.model, k) for k in keys]

    def forward(self, batch: Batch, step: int) -> Terms:
        # Images without labels come last: their logits enter no task loss, their hidden states the distance.
        rows, labels = batch.whole
        loss = lambda view: (  # noqa: E731
            F.cross_entropy(view.logits[: len(batch.y)], batch.y, reduction="sum") / labels
        )
        noisy = self.copies(batch, step)
        terms = self.objective(self.model, batch.clean, noisy, loss, step, rows)
        # Not in a clean phase, which is the same for every method.
        return self.smooth(terms, batch, noisy) if self.smoothness.used and step >= 0 else terms

    def smooth(self, terms: Terms, batch: Batch, noisy: list[Tensor]) -> Terms:
        """The same with the terms of smoothness added. They belong to each image, so batch norm is in eval mode."""
        c, labels = self.smoothness, batch.whole.targets
        assert batch.clean is not None
        x = batch.clean[: len(batch.y)]
        sigma: Sigma = Isotropic(c.std)
        if c.sigma != "isotropic":
            self.running.update(x, noisy[0][: len(batch.y)])
            sigma = self.running.sigma()
        extra, total = {}, terms.total
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


class VisionTask(BaseTask):
    """The task of the training loop (see `irl.tasks.base.Task`)."""

    def __init__(self, config: VisionConfig, part: Part = Part()) -> None:
        self.config, self.part = config, part
        self.statistics = Statistics.read(Path(config.statistics))
        self.train = VisionData(config.train_set, config, self.statistics, "train", part)
        self.dev = VisionData(config.dev_set, config, self.statistics, "dev")
        if self.dev.classes != self.train.classes:
            raise UserError(f"{config.dev_set}: has other classes than {config.train_set}")
        torch.manual_seed(config.seed)
        model = build_model(config, len(self.train.classes))
        attack = Attack(config.attack, self.statistics.mean, self.statistics.std) if config.attack.kind else None
        self.module = VisionStep(model, config, attack, self.train.size)
        # Attacks draw on a CPU; the first update of a running covariance is another than those after it.
        self.recordable = not config.attack.kind and not config.smoothness.used

    def copies(self, objective: IRLLoss) -> int:
        """A running covariance looks at noise that no other term may need; not in a clean phase, whose gamma is 0."""
        c = self.config
        running = c.smoothness.used and c.smoothness.sigma != "isotropic" and objective.gamma == c.objective.gamma
        return super().copies(objective) or int(running)

    def batches_in(self, epoch: int) -> int:
        return self.train.batches

    def loader(self, epoch: int, plans: list[Plan], workers: int) -> Iterator[Batch]:
        """Batches are made on the device that holds the set: workers would have nothing to do."""
        self.train.to(next(self.module.parameters()).device)
        for plan in plans:
            yield self.train.make(epoch, plan)

    @torch.no_grad()
    def evaluate(self) -> dict[str, Stat]:
        """On the dev set: loss and errors, and, where training draws noise, the same on one fixed noisy copy, and for
        each layer the relative L2 and cosine distances between the two, the clean norm, and the effective rank.
        """
        module, objective = self.module, self.config.objective.build()
        measured = Measured()
        self.dev.to(next(module.parameters()).device)
        plan = Plan(0, True, 1 if objective.needs_noisy else 0)
        module.eval()
        for rows in self.part.take(torch.arange(len(self.dev.labels)).split(EVALUATED)):
            batch = self.dev.views(rows, 0, plan, len(rows))
            views: list[Output] = [module.model(x) for x in [batch.clean, *module.copies(batch, 0, "attack/dev")]]
            for name, view in zip(("clean", "noisy"), views):
                measured.add(f"loss/{name}", float(F.cross_entropy(view.logits, batch.y, reduction="sum")), len(rows))
                measured.add(f"error/{name}", float((view.logits.argmax(1) != batch.y).sum()), len(rows))
            if len(views) > 1:
                measured.compare(views[0], views[1], len(rows))
        module.train()
        return measured.found()

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint needs beside its weights to classify images."""
        statistics = {name: values.tolist() for name, values in self.statistics._asdict().items()}
        return {"classes": self.train.classes, **statistics, "train_data": self.train.digest}


EVALUATED = 250  # images at once


def build_model(config: VisionConfig, classes: int) -> WideResNet:
    model = WideResNet(classes, config.model)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        model.compile()
    return model
