"""Covariances from sums that are added up batch by batch: of colours, features, noise and activations."""

from __future__ import annotations

import math
from typing import Any, Sequence

import torch
from torch import Tensor, nn

from irl.objective.covariance import Diagonal, Full, Sigma, full_precision
from irl.training.distributed import all_reduce_sum


class RunningCovariance:
    """Number, sum and sum of products (D, D) of vectors (M, D), from which mean and covariance follow.

    diagonal: sums of squares instead of products, of vectors of any shape. centred: sums are taken about the first
    vector; about zero, rounding passes for variance where there is none. Sums about zero are plain numbers that can be
    kept in a file (`from_sums`). dtype: of the sums.
    """

    def __init__(self, diagonal: bool = False, centred: bool = True, dtype: torch.dtype = torch.float64) -> None:
        self.diagonal, self.centred, self.dtype = diagonal, centred, dtype
        self.count = 0
        self.origin: Tensor | None = None
        # Tensors once there is a vector.
        self.sum: Any = 0.0
        self.products: Any = 0.0

    @classmethod
    def from_sums(cls, count: int, total: Sequence[float], products: Sequence[Any]) -> RunningCovariance:
        """Of sums about zero as they were kept in a file. Raises ValueError where they do not fit or are no sums."""
        restored = cls(centred=False)
        restored.count = count
        restored.sum, restored.products = (torch.tensor(x, dtype=torch.float64) for x in (total, products))
        size = restored.sum.shape
        restored.diagonal = restored.products.shape == size
        if len(size) != 1 or not (restored.diagonal or restored.products.shape == size * 2):
            raise ValueError(f"sums {tuple(size)} and products {tuple(restored.products.shape)} do not fit")
        if count < 1 or not (torch.isfinite(restored.sum).all() and torch.isfinite(restored.products).all()):
            raise ValueError(f"expected finite sums of at least one vector, found {count} vectors")
        return restored

    def add(self, x: Tensor) -> None:
        """Vectors (M, D)."""
        x = x.to(self.dtype)
        if self.centred:
            if self.origin is None and len(x):
                self.origin = x[0].clone()
            x = x - (0 if self.origin is None else self.origin)
        self.count += len(x)
        self.sum = self.sum + x.sum(0)
        self.products = self.products + (x.square().sum(0) if self.diagonal else x.flatten(1).T @ x.flatten(1))

    def sums(self) -> tuple[int, list[float], list[Any]]:
        """(number, sum, sum of products or squares) as plain numbers, for a file."""
        return self.count, self.sum.tolist(), self.products.tolist()

    def to_cpu(self) -> RunningCovariance:
        copy = RunningCovariance(self.diagonal, self.centred, self.dtype)
        copy.count = self.count
        if self.count:
            copy.sum, copy.products = self.sum.cpu(), self.products.cpu()
            copy.origin = None if self.origin is None else self.origin.cpu()
        return copy

    def merge(self, other: RunningCovariance) -> None:
        """Add the vectors of another, centred and full like this one."""
        assert self.centred and other.centred and not self.diagonal and not other.diagonal
        if other.origin is None:
            return
        if self.origin is None:
            self.count, self.origin, self.sum, self.products = other.count, other.origin, other.sum, other.products
            return
        shift = other.origin - self.origin
        cross = torch.outer(shift, other.sum)
        self.products = self.products + other.products + cross + cross.T + other.count * torch.outer(shift, shift)
        self.sum = self.sum + other.sum + other.count * shift
        self.count += other.count

    @property
    def mean(self) -> Tensor:
        """(D,)"""
        mean: Tensor = self.sum / self.count
        return mean if self.origin is None else mean + self.origin

    @property
    def covariance(self) -> Tensor:
        """(D, D), or the variances (D,) if diagonal; divided by the number of vectors."""
        mean: Tensor = self.sum / self.count
        return self.products / self.count - (mean.square() if self.diagonal else torch.outer(mean, mean))

    @property
    def std(self) -> Tensor:
        """(D,), at least 0.001, to divide by."""
        variance = self.covariance if self.diagonal else self.covariance.diagonal()
        return variance.clamp(min=1e-6).sqrt()

    def effective_rank(self) -> float:
        """exp of the entropy of the singular values, scaled to sum 1, of the centred vectors (Roy and Vetterli 2007):
        1 if all lie on a line, D if they vary alike in every direction; NaN where a vector is not finite."""
        covariance = self.covariance
        if not torch.isfinite(covariance).all():
            return math.nan
        try:
            singular = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
        except torch.linalg.LinAlgError:  # of numbers that are nearly too large
            return math.nan
        p = singular / singular.sum().clamp(min=1e-30)
        return float(torch.exp(-torch.xlogy(p, p).sum()))


class NoiseCovariance(nn.Module):
    """Second moment of the noise that training draws: Sigma <- (1 - rate) Sigma + rate * mean(xi xi^T), where the first
    batch is taken whole (Roth et al. 2018, with rate 0.1). shape: of a sample. diagonal: its diagonal alone."""

    covariance: Tensor
    started: Tensor

    def __init__(self, shape: Sequence[int], rate: float = 0.1, diagonal: bool = False) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate must be in (0, 1], got {rate}")
        self.rate, self.diagonal = rate, diagonal
        size = torch.Size(shape).numel()
        self.register_buffer("covariance", torch.zeros(tuple(shape) if diagonal else (size, size)))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def update(self, clean: Tensor, noisy: Tensor) -> None:
        """Views (N, *shape) of the same samples."""
        xi = (noisy - clean).to(self.covariance)
        batch = RunningCovariance(self.diagonal, centred=False, dtype=xi.dtype)
        with full_precision(xi):
            batch.add(xi)
        # Over the samples of all processes.
        count = all_reduce_sum(torch.tensor(float(batch.count), device=xi.device))
        moment = all_reduce_sum(batch.products) / count
        self.covariance.lerp_(moment, self.rate if self.started else 1.0)
        self.started.fill_(True)

    def sigma(self) -> Sigma:
        return Diagonal(self.covariance) if self.diagonal else Full(self.covariance)
