"""Balls about samples in the L-infinity and L2 norms, within bounds: the search space of adversarial noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irl.core.rng import Keys


@dataclass(frozen=True)
class LpBall:
    """The points within eps of each sample's center in a norm ("linf" or "l2") and within bounds.

    center (N, ...). bounds: the lowest and highest values, which broadcast with center; the center lies within them.
    """

    center: Tensor
    eps: float
    norm: str = "linf"
    bounds: tuple[Tensor, Tensor] | None = None

    def project(self, z: Tensor) -> Tensor:
        """The nearest point within eps (N, ...), then the nearest within bounds."""
        away = z - self.center
        if self.norm == "linf":
            away = away.clamp(-self.eps, self.eps)
        else:
            away = away * (self.eps / _l2(away).clamp(min=1e-12)).clamp(max=1.0)
        z = self.center + away
        return z if self.bounds is None else torch.maximum(torch.minimum(z, self.bounds[1]), self.bounds[0])

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of size 1 in which a linear function with this gradient grows most, (N, ...)."""
        return gradient.sign() if self.norm == "linf" else gradient / _l2(gradient).clamp(min=1e-12)

    def random_point(self, keys: Keys) -> Tensor:
        """Uniform in the ball, before it is cut at the bounds (N, ...)."""
        count = self.center[0].numel()
        if self.norm == "linf":
            return self._at(keys.uniform(count, -1.0, 1.0))
        return self._at(_direction(keys, count) * keys.sub("radius").uniform(1) ** (1 / count))

    def surface_point(self, keys: Keys) -> Tensor:
        """At a random corner (linf) or in a random direction (l2), at size eps before it is cut at the bounds."""
        count = self.center[0].numel()
        return self._at(keys.uniform(count, -1.0, 1.0).sign() if self.norm == "linf" else _direction(keys, count))

    def _at(self, offset: Tensor) -> Tensor:
        """offset (N, D): in units of eps."""
        return self.project(self.center + (self.eps * offset).to(self.center).view_as(self.center))


def _l2(x: Tensor) -> Tensor:
    """The length of each sample, (N, 1, ...)."""
    return x.flatten(1).norm(dim=1).view(column(x))


def column(x: Tensor) -> list[int]:
    """The shape in which (N,) broadcasts with x (N, ...)."""
    return [-1] + [1] * (x.ndim - 1)


def _direction(keys: Keys, count: int) -> Tensor:
    """Uniform on the unit sphere, (N, count)."""
    draws = keys.normal(count)
    return draws / draws.norm(dim=1, keepdim=True)
