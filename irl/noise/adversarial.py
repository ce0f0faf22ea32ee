"""Adversarial noise: FGSM, PGD, APGD and VAT, with random noise of the same size to compare them with.

An attack raises a loss of the model within a ball about each image. The attacks are plain functions of a model, a ball,
the labels and a loss. `Attack` is what a configuration builds: it applies one of them to normalised images.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irl.core.rng import Keys
from irl.core.types import Checked, Count, NonNegative
from irl.noise.lp_ball import LpBall, column

Kind = Literal["", "fgsm", "pgd", "apgd_ce", "apgd_dlr", "random", "vat"]
KINDS = get_args(Kind)[1:]
Norm = Literal["linf", "l2"]
Units = Literal["normalised", "pixels"]
# Points of the ball (N, ...) -> logits (N, C).
Model = Callable[[Tensor], Tensor]
# (logits (N, C), labels (N,)) -> the loss of each sample (N,), which an attack raises.
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AttackConfig(Checked):
    """kind: "fgsm" (Goodfellow et al. 2015), "pgd" (Madry et al. 2018), "apgd_ce" or "apgd_dlr" (Croce and Hein 2020),
    "random": random signs (linf) or a random direction (l2) of size eps, "vat" (Miyato et al. 2018); "" is none.

    steps, restarts, step_size: settings of the iterated attacks; step_size 0 means 2.5 eps / steps for PGD, an initial
    step of 2 eps for APGD, and eps / 10 for VAT, whose paper takes one step.
    against: the quantity that the attack increases: the loss of the "labels" or, for pgd and vat, the KL divergence
    from the model's own prediction for the clean image, "itself" (TRADES, Zhang et al. 2019), which needs no labels.
    clip: clip attacked images to valid pixels. eval_mode: attack the model in evaluation mode; otherwise in training
    mode, where batch norm uses the batch and its running statistics do not change.
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
        if self.against == "itself" and self.kind not in ("pgd", "vat"):
            raise ValueError(f"against 'itself' needs kind pgd or vat, got {self.kind!r}")
        if self.kind == "vat" and (self.against, self.norm, self.restarts) != ("itself", "l2", 1):
            raise ValueError("kind 'vat' needs against itself, norm l2 and one start")


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(N, C) -> (N,). y: labels (N,) or distributions (N, C)."""
    return F.cross_entropy(logits.float(), y, reduction="none")


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020) for 3 classes or more, (N, C), (N,) -> (N,):
    -(z_y - max_{i != y} z_i) / (z_(1) - z_(3))."""
    ordered = logits.float().sort(dim=1, descending=True).values
    own = logits.float().gather(1, y[:, None])[:, 0]
    other = torch.where(own == ordered[:, 0], ordered[:, 1], ordered[:, 0])
    return -(own - other) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


@contextlib.contextmanager
def attacked(model: nn.Module, eval_mode: bool) -> Iterator[None]:
    """The model while it is attacked: in evaluation mode if eval_mode. Afterwards every module has its own mode again,
    and batch norm the running statistics that it had before."""
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


def _ascent(model: Model, z: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """At z: each sample's loss (N,), whether it is misclassified (N,), and the gradient (N, ...) up to a factor."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        logits = model(z)
        values = loss(logits, y)
        # Directions do not depend on the factor; with it float16 loses no small gradients.
        (gradient,) = torch.autograd.grad(1024 * values.sum(), z)
    return values.detach(), logits.detach().argmax(1) != y, gradient


def fgsm(model: Model, ball: LpBall, y: Tensor, loss: Loss = cross_entropy) -> Tensor:
    """Fast gradient sign method (Goodfellow et al. 2015): one step from the center to the surface."""
    gradient = _ascent(model, ball.center, y, loss)[2]
    return ball.project(ball.center + ball.eps * ball.steepest(gradient))


def pgd(
    model: Model, ball: LpBall, y: Tensor, keys: Keys, loss: Loss = cross_entropy, steps: int = 20, size: float = 0.0
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018), from a random start. size of a step: 0 is
    2.5 eps / steps."""
    z = ball.random_point(keys)
    size = size or 2.5 * ball.eps / steps
    for _ in range(steps):
        z = ball.project(z + size * ball.steepest(_ascent(model, z, y, loss)[2]))
    return z


def vat(
    model: Model, ball: LpBall, y: Tensor, keys: Keys, loss: Loss = cross_entropy, steps: int = 1, size: float = 0.0
) -> Tensor:
    """Virtual adversarial noise (Miyato et al. 2018): the point of the surface in the direction in which the divergence
    from the model's own prediction grows fastest. steps of the power method find it from a random direction. size is
    their xi, the distance from the center at which gradients are taken; 0 is eps / 10."""
    size = size or ball.eps / 10
    direction = ball.steepest(ball.surface_point(keys) - ball.center)
    for _ in range(steps):
        direction = ball.steepest(_ascent(model, ball.center + size * direction, y, loss)[2])
    return ball.project(ball.center + ball.eps * direction)


def apgd(
    model: Model, ball: LpBall, y: Tensor, keys: Keys, loss: Loss = cross_entropy, steps: int = 20, size: float = 0.0
) -> Tensor:
    """Auto-PGD (Croce and Hein 2020, algorithm 1) with momentum 0.75, from a random start. size of the first step: 0 is
    2 eps.

    At checkpoints a sample halves its step and goes back to its best point, if fewer than 75 % of the steps since the
    last checkpoint raised its loss, or if neither its step nor its best loss has changed since then. Returns each
    sample's first misclassified point, or its best point if there was none.
    """
    z = before = ball.random_point(keys)
    samples = column(z)
    sizes = torch.full((len(z),), size or 2 * ball.eps, device=z.device, dtype=z.dtype)
    value, wrong, gradient = _ascent(model, z, y, loss)
    best_z, best_value, best_gradient = z, value, gradient
    found_z, found = z, wrong
    raised = torch.zeros_like(value)
    # At the last checkpoint: whether the step was halved, and the best loss. The first checkpoint counts raises alone.
    halved, last_best, last = torch.ones_like(wrong), best_value, 0
    checkpoints = _checkpoints(steps)
    for k in range(1, steps + 1):
        forward = ball.project(z + sizes.view(samples) * ball.steepest(gradient))
        if k > 1:
            forward = ball.project(z + 0.75 * (forward - z) + 0.25 * (z - before))
        before, old = z, value
        z = forward
        value, wrong, gradient = _ascent(model, z, y, loss)
        found_z = torch.where((wrong & ~found).view(samples), z, found_z)
        found = found | wrong
        raised += value > old
        better = value > best_value
        best_z = torch.where(better.view(samples), z, best_z)
        best_gradient = torch.where(better.view(samples), gradient, best_gradient)
        best_value = torch.maximum(value, best_value)
        if k in checkpoints:
            halved = (raised < 0.75 * (k - last)) | (~halved & (last_best >= best_value))
            sizes = torch.where(halved, sizes / 2, sizes)
            z = torch.where(halved.view(samples), best_z, z)
            gradient = torch.where(halved.view(samples), best_gradient, gradient)
            value = torch.where(halved, best_value, value)
            last_best, last = best_value, k
            raised = torch.zeros_like(raised)
    return torch.where(found.view(samples), found_z, best_z)


def _checkpoints(steps: int) -> set[int]:
    """p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), as numbers of steps."""
    previous, p = 0.0, 0.22
    numbers = set()
    while p < 1 + 1e-9:
        numbers.add(math.ceil(round(p * steps, 6)))
        previous, p = p, p + max(p - previous - 0.03, 0.06)
    return numbers


def worst(model: Model, ball: LpBall, y: Tensor, points: Iterable[Tensor], loss: Loss = cross_entropy) -> Tensor:
    """The point of largest loss of each sample (N, ...); misclassified points rank before all correct ones."""
    kept, highest = ball.center, torch.full((len(y),), -math.inf, device=ball.center.device)
    for z in points:
        values, wrong, _ = _ascent(model, z, y, loss)
        rank = torch.where(wrong, 1e6, 0.0) + values.clamp(-1e5, 1e5)
        kept = torch.where((rank > highest).view(column(z)), z, kept)
        highest = torch.maximum(rank, highest)
    return kept


class Attack:
    """The attack of a configuration on normalised images, (pixel - mean) / std. mean, std: on the scale 0-255, (3,), or
    of as many channels as the images have.

    The ball is measured on normalised images, as the paper's eps is, or with units "pixels" on pixels of 0-255.
    """

    def __init__(self, config: AttackConfig, mean: Tensor, std: Tensor) -> None:
        if not config.kind:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found none")
        self.config = config
        self.mean, self.std = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def apply(self, x: Tensor, y: Tensor, model: nn.Module, keys: Keys | None = None) -> Tensor:
        """Images x (N, C, H, W) with labels y (N,) -> adversarial images of the same shape. x is not written.

        model(x) returns Output. keys: for random starts and random noise; ValueError if they are needed and missing.
        With several restarts each sample keeps the worst point found.
        """
        c = self.config
        scale = self.std.to(x) if c.units == "pixels" else torch.ones_like(self.std).to(x)
        ball = self.ball(x, scale)

        def logits(z: Tensor) -> Tensor:
            values: Tensor = model(z / scale).logits
            return values

        with attacked(model, c.eval_mode):
            return (self._find(logits, ball, y, keys) / scale).detach()

    def ball(self, x: Tensor, scale: Tensor) -> LpBall:
        """The ball about scale * x; with `clip` it is cut at pixels 0 and 255."""
        c, mean, std = self.config, self.mean.to(x), self.std.to(x)
        low, high = ((pixel - mean) / std * scale for pixel in (0.0, 255.0))
        return LpBall((x * scale).detach(), c.eps, c.norm, (low, high) if c.clip else None)

    def _find(self, model: Model, ball: LpBall, y: Tensor, keys: Keys | None) -> Tensor:
        c = self.config
        loss: Loss = dlr if c.kind == "apgd_dlr" else cross_entropy
        if c.against == "itself":
            # Cross entropy with a constant distribution and the KL divergence from it have the same gradient.
            with torch.no_grad():
                prediction = model(ball.center).float().softmax(1)
            y, loss = prediction.argmax(1), lambda logits, _: cross_entropy(logits, prediction)
        if c.kind == "fgsm":
            return fgsm(model, ball, y, loss)
        if keys is None:
            raise ValueError(f"attack {c.kind!r} draws at random: give keys")
        if c.kind == "random":
            return ball.surface_point(keys)
        attack = {"pgd": pgd, "vat": vat}.get(c.kind, apgd)
        starts = [keys.sub(f"restart{i}") for i in range(c.restarts)]
        points = (attack(model, ball, y, start, loss, c.steps, c.step_size) for start in starts)
        return next(points) if c.restarts == 1 else worst(model, ball, y, points, loss)
