"""Adversarial noise on normalised images: FGSM, PGD, APGD, and random noise of the same size beside them.

Attacks ascend a loss of the model within a ball about each image. Images are x = (pixel - mean) / std; the ball is
measured on them (the paper's eps) or, with units "pixels", on pixels of 0-255.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass
from typing import Callable, Iterator, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irl.core.output import Output
from irl.core.rng import Keys
from irl.core.types import Checked, Count, NonNegative

Kind = Literal["", "fgsm", "pgd", "apgd_ce", "apgd_dlr", "random"]
KINDS = get_args(Kind)[1:]
Norm = Literal["linf", "l2"]
Units = Literal["normalised", "pixels"]
# Loss of each sample: (logits (N, C), labels (N,)) -> (N,), which the attack makes large.
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AttackConfig(Checked):
    """kind: "fgsm" (Goodfellow et al. 2015), "pgd" (Madry et al. 2018), "apgd_ce" or "apgd_dlr" (Croce and Hein 2020),
    "random": random signs (linf) or a random direction (l2) of size eps; "" is none.

    steps, restarts, step_size: of the iterated attacks; step_size 0 is 2.5 eps / steps for PGD, at first 2 eps for
    APGD.
    against: what is made large, the loss of the "labels" or, for pgd, the KL divergence from the model's
    prediction for the clean image, "itself" (TRADES, Zhang et al. 2019).
    clip: images to valid pixels. eval_mode: the model's batch norm and dropout are those of evaluation while attacking;
    otherwise batch norm looks at the batch, and its running statistics are left as they are.
    """

    kind: Kind = ""
    eps: NonNegative = 0.4
    norm: Norm = "linf"
    units: Units = "normalised"
    steps: Count = 20
    step_size: NonNegative = 0.0
    restarts: Count = 1
    against: Literal["labels", "itself"] = "labels"
    clip: bool = False
    eval_mode: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against == "itself" and self.kind != "pgd":
            raise ValueError(f"against 'itself' needs kind pgd, got {self.kind!r}")


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), y, reduction="none")


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio, -(z_y - max_{i != y} z_i) / (z_(1) - z_(3)), for 3 classes or more (Croce and Hein
    2020)."""
    ordered = logits.float().sort(dim=1, descending=True).values
    own = logits.float().gather(1, y[:, None])[:, 0]
    other = torch.where(own == ordered[:, 0], ordered[:, 1], ordered[:, 0])
    return -(own - other) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


@contextlib.contextmanager
def attacked(model: nn.Module, eval_mode: bool) -> Iterator[None]:
    """Meanwhile running statistics of batch norm stay as they are; afterwards every module is in its mode again."""
    training = {module: module.training for module in model.modules()}
    norms = [] if eval_mode else [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [[(buffer, buffer.clone()) for buffer in norm.buffers()] for norm in norms]
    if eval_mode:
        model.eval()
    try:
        yield
    finally:
        for buffer, before in itertools.chain.from_iterable(kept):
            buffer.copy_(before)
        for module, mode in training.items():
            module.training = mode


def _size(x: Tensor, norm: str) -> Tensor:
    """Of each sample, (N, 1, 1, 1)."""
    size = x.abs().flatten(1).amax(1) if norm == "linf" else x.flatten(1).norm(dim=1)
    return size.view(-1, 1, 1, 1)


def _steepest(gradient: Tensor, norm: str) -> Tensor:
    """The direction of size 1 in which a linear function with this gradient grows most."""
    if norm == "linf":
        return gradient.sign()
    return gradient / _size(gradient, norm).clamp(min=1e-12)


class Attack:
    """An attack of a configuration. mean, std: (3,) of the normalisation, on the scale 0-255."""

    def __init__(self, config: AttackConfig, mean: Tensor, std: Tensor) -> None:
        self.config = config
        self.mean, self.std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def apply(self, x: Tensor, y: Tensor, model: nn.Module, keys: Keys | None = None) -> Tensor:
        """Images x (N, 3, H, W) of labels y -> adversarial ones. keys: for random starts. x is not written.

        model(x) returns Output. With several restarts each sample keeps the worst found: one that is misclassified if
        there is one, of the largest loss.
        """
        c = self.config
        # Distances are measured in z = scale * x.
        scale = self.std.to(x) if c.units == "pixels" else torch.ones_like(self.std).to(x)
        mean, std = self.mean.to(x), self.std.to(x)
        low, high = ((bound - mean) / std * scale for bound in (0.0, 255.0))
        center = (x * scale).detach()

        def project(z: Tensor) -> Tensor:
            away = z - center
            if c.norm == "linf":
                away = away.clamp(-c.eps, c.eps)
            else:
                away = away * (c.eps / _size(away, "l2").clamp(min=1e-12)).clamp(max=1.0)
            z = center + away
            return torch.maximum(torch.minimum(z, high), low) if c.clip else z

        loss = dlr if c.kind == "apgd_dlr" else cross_entropy
        target = y

        def ascend(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Each sample's loss and whether it is misclassified at z, and the gradient there."""
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                output: Output = model(z / scale)
                values = loss(output.logits, target)
                # Directions do not depend on the scale, under which float16 loses no small gradients.
                (gradient,) = torch.autograd.grad(1024 * values.sum(), z)
            return values.detach(), output.logits.detach().argmax(1) != y, gradient

        with attacked(model, c.eval_mode):
            if c.against == "itself":
                # Cross entropy with a constant distribution and KL from it have one gradient.
                with torch.no_grad():
                    target = model(center / scale).logits.float().softmax(1)
            if c.kind == "fgsm":
                return (project(center + c.eps * _steepest(ascend(center)[2], c.norm)) / scale).detach()
            if c.kind == "random":
                return (project(center + self._random(center, keys, fill=True)) / scale).detach()
            best, worst = center, torch.full((len(x),), -math.inf, device=x.device)
            for restart in range(c.restarts):
                start = project(center + self._random(center, keys and keys.sub(f"restart{restart}")))
                if c.kind == "pgd":
                    z = start
                    size = c.step_size or 2.5 * c.eps / c.steps
                    for _ in range(c.steps):
                        z = project(z + size * _steepest(ascend(z)[2], c.norm))
                else:
                    z = _apgd(start, ascend, project, c)
                if c.restarts == 1:
                    return (z / scale).detach()
                values, wrong, _ = ascend(z)
                # A misclassified sample goes before any that is not.
                rank = torch.where(wrong, 1e6, 0.0) + values.clamp(-1e5, 1e5)
                best = torch.where((rank > worst).view(-1, 1, 1, 1), z, best)
                worst = torch.maximum(rank, worst)
            return (best / scale).detach()

    def _random(self, z: Tensor, keys: Keys | None, fill: bool = False) -> Tensor:
        """A random point of the ball, uniform; with fill on its surface: all values +-eps, or of length eps."""
        c = self.config
        if keys is None:
            raise ValueError(f"attack {c.kind!r} draws at random: give keys")
        count = z[0].numel()
        if c.norm == "linf":
            draws = keys.uniform(count, -1.0, 1.0)
            draws = draws.sign() if fill else draws
        else:
            draws = keys.normal(count)
            draws = draws / draws.norm(dim=1, keepdim=True)
            if not fill:
                draws = draws * keys.sub("radius").uniform(1) ** (1 / count)
        return (c.eps * draws).to(z).view_as(z)


def _apgd(
    start: Tensor,
    ascend: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    project: Callable[[Tensor], Tensor],
    config: AttackConfig,
) -> Tensor:
    """Auto-PGD (Croce and Hein 2020, Algorithm 1): momentum 0.75; at checkpoints a sample's step is halved, and it goes
    on from its best point, where fewer than 75 % of the steps since the last one raised its loss, or where neither
    step nor best loss changed. Returns each sample's best point, a misclassified one if there was one."""
    steps = config.steps
    shape = (-1, 1, 1, 1)
    size = torch.full((len(start),), config.step_size or 2 * config.eps, device=start.device, dtype=start.dtype)
    before = z = start
    value, wrong, gradient = ascend(z)
    best_z, best_value, best_gradient = z, value, gradient
    found_z, found = z, wrong
    raised = torch.zeros_like(value)
    # Of the last checkpoint: whether the step was halved there, and the best loss. The first judges by raises alone.
    halved, last_best, last = torch.ones_like(wrong), best_value, 0
    marks = _checkpoints(steps)
    for k in range(steps):
        forward = project(z + size.view(shape) * _steepest(gradient, config.norm))
        if k:
            forward = project(z + 0.75 * (forward - z) + 0.25 * (z - before))
        before, old = z, value
        z = forward
        value, wrong, gradient = ascend(z)
        found_z = torch.where((wrong & ~found).view(shape), z, found_z)
        found = found | wrong
        raised += value > old
        better = value > best_value
        best_z = torch.where(better.view(shape), z, best_z)
        best_gradient = torch.where(better.view(shape), gradient, best_gradient)
        best_value = torch.maximum(value, best_value)
        if k + 1 in marks:
            halved = (raised < 0.75 * (k + 1 - last)) | (~halved & (last_best >= best_value))
            size = torch.where(halved, size / 2, size)
            z = torch.where(halved.view(shape), best_z, z)
            gradient = torch.where(halved.view(shape), best_gradient, gradient)
            value = torch.where(halved, best_value, value)
            last_best, last = best_value, k + 1
            raised = torch.zeros_like(raised)
    return torch.where(found.view(shape), found_z, best_z)


def _checkpoints(steps: int) -> set[int]:
    """p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), as numbers of steps."""
    previous, p = 0.0, 0.22
    found = set()
    while p < 1 + 1e-9:
        found.add(math.ceil(round(p * steps, 6)))
        previous, p = p, p + max(p - previous - 0.03, 0.06)
    return found
