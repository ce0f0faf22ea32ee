"""Covariances of small Gaussian noise on the input of a model: isotropic, diagonal, full."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class Sigma:
    """Covariance of the noise on one sample's input. Samples, and draws, are independent of each other."""

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """xi ~ N(0, Sigma) for each sample of x (N, ...), of its shape."""
        raise NotImplementedError

    def quadratic(self, g: Tensor) -> Tensor:
        """g^T Sigma g of each row of g (N, ...) -> (N,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Isotropic(Sigma):
    """Sigma = std^2 I."""

    std: float = 1.0

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.std * standard_normal(x, generator)

    def quadratic(self, g: Tensor) -> Tensor:
        return self.std**2 * g.flatten(1).square().sum(1)


@dataclass(frozen=True, eq=False)
class Diagonal(Sigma):
    """Sigma = diag(variance), variance of the shape of one sample, or one that broadcasts to it."""

    variance: Tensor

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.variance.to(x).sqrt() * standard_normal(x, generator)

    def quadratic(self, g: Tensor) -> Tensor:
        return (g.square() * self.variance.to(g)).flatten(1).sum(1)


class Full(Sigma):
    """Any covariance (D, D) of a sample of D numbers; of sequences (N, T, D), whose steps are then independent."""

    def __init__(self, covariance: Tensor) -> None:
        if covariance.dim() != 2 or covariance.shape[0] != covariance.shape[1]:
            raise ValueError(f"a covariance must be (D, D), got {tuple(covariance.shape)}")
        self.covariance = covariance
        self._root: Tensor | None = None

    @property
    def root(self) -> Tensor:
        """Sigma = root root^T, for draws; a covariance of less than full rank has one too. Taken once."""
        if self._root is None:
            values, vectors = torch.linalg.eigh(self.covariance.double())
            if values[0] < -1e-5 * values[-1].abs():
                raise ValueError(f"a covariance must not have negative eigenvalues, found {float(values[0]):.3g}")
            self._root = vectors * values.clamp(min=0).sqrt()
        return self._root

    def _rows(self, x: Tensor) -> Tensor:
        size = len(self.covariance)
        if x[0].numel() != size and x.shape[-1] != size:
            raise ValueError(f"the covariance is of {size} numbers, a sample is {tuple(x.shape[1:])}")
        return x.reshape(len(x), -1, size)

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        with full_precision(x):
            return (self._rows(standard_normal(x, generator)) @ self.root.to(x).T).view(x.shape)

    def quadratic(self, g: Tensor) -> Tensor:
        rows = self._rows(g)
        with full_precision(g):
            return (rows @ self.covariance.to(rows) * rows).sum((1, 2))


def full_precision(x: Tensor) -> torch.autocast:
    """Covariances are not taken in half precision, whatever the model is trained in."""
    return torch.autocast(x.device.type, enabled=False)


def standard_normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
