"""Covariances, batch by batch."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from irl.objective.smoothness import Diagonal, Full, Sigma, _full_precision
from irl.training.distributed import all_reduce_sum


class RunningCovariance:
    """Sums over vectors (M, D), from which their covariance follows, batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        # Sums are taken about the first vector: about zero, rounding would pass for variance where there is none.
        self.origin: Tensor | None = None
        self.sum: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        x = x.double()
        if self.origin is None and len(x):
            self.origin = x[0].clone()
        x = x - (0 if self.origin is None else self.origin)
        self.count += len(x)
        self.sum = self.sum + x.sum(0)
        self.products = self.products + x.T @ x

    def to_cpu(self) -> RunningCovariance:
        found = RunningCovariance()
        found.count = self.count
        if self.origin is not None:
            assert isinstance(self.sum, Tensor) and isinstance(self.products, Tensor)
            found.origin, found.sum, found.products = self.origin.cpu(), self.sum.cpu(), self.products.cpu()
        return found

    def merge(self, other: RunningCovariance) -> None:
        """The vectors of another are added."""
        if other.origin is None:
            return
        if self.origin is None:
            self.count, self.origin, self.sum, self.products = other.count, other.origin, other.sum, other.products
            return
        assert isinstance(other.sum, Tensor) and isinstance(other.products, Tensor)
        shift = other.origin - self.origin
        cross = torch.outer(shift, other.sum)
        self.products = self.products + other.products + cross + cross.T + other.count * torch.outer(shift, shift)
        self.sum = self.sum + other.sum + other.count * shift
        self.count += other.count

    def effective_rank(self) -> float:
        """exp of the entropy of the singular values, scaled to sum 1, of the centred vectors (Roy and Vetterli 2007):
        1 if all lie on a line, D if they vary alike in every direction."""
        assert isinstance(self.sum, Tensor) and isinstance(self.products, Tensor)
        mean = self.sum / self.count
        singular = torch.linalg.eigvalsh(self.products / self.count - torch.outer(mean, mean)).clamp(min=0).sqrt()
        p = singular / singular.sum().clamp(min=1e-30)
        return float(torch.exp(-torch.xlogy(p, p).sum()))


class NoiseCovariance(nn.Module):
    """The second moment of the noise that training draws, Sigma <- (1 - rate) Sigma + rate * mean(xi xi^T), begun with
    the first batch (Roth et al. 2018, with rate 0.1). shape: of a sample. diagonal: its diagonal alone."""

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
        with _full_precision(xi):
            sums = xi.square().sum(0) if self.diagonal else xi.flatten(1).T @ xi.flatten(1)
        # Of the samples of all processes.
        moment = all_reduce_sum(sums) / all_reduce_sum(torch.tensor(float(len(xi)), device=xi.device))
        self.covariance.lerp_(moment, self.rate if self.started else 1.0)
        self.started.fill_(True)

    def sigma(self) -> Sigma:
        return Diagonal(self.covariance) if self.diagonal else Full(self.covariance)
