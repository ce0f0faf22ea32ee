"""What is measured of hidden states on clean and noisy examples: distances, norms, effective ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from irl.objective import L2, Cosine, IRLLoss
from irl.processes import gathered
from irl.tasks.base import Stat
from irl.types import Output, lens_to_mask

DISTANCES = IRLLoss(alpha=0, beta=0, gamma=1, distance=L2("relative") + Cosine())


def layer_norms(view: Output) -> dict[str, Tensor]:
    """For each hidden state the mean over samples of its norm: with lengths, (N, T, D), of the mean norm of a sample's
    valid frames; without, of the sample as one vector, as distances take it."""
    found = {}
    for layer, hidden in view.hidden.items():
        if layer not in view.lens:
            found[layer] = hidden.flatten(1).norm(dim=1).mean()
            continue
        mask = lens_to_mask(view.lens[layer], hidden.shape[1])
        found[layer] = ((hidden.norm(dim=-1) * mask).sum(1) / mask.sum(1)).mean()
    return found


def valid_frames(view: Output) -> dict[str, Tensor]:
    """For each hidden state its vectors (M, D): the valid frames of (N, T, D) with lengths, the positions of feature
    maps (N, D, H, W) without."""
    found = {}
    for layer, hidden in view.hidden.items():
        if layer in view.lens:
            found[layer] = hidden[lens_to_mask(view.lens[layer].to(hidden.device), hidden.shape[1])]
        else:
            found[layer] = hidden.movedim(1, -1).flatten(0, -2)
    return found


class Scatter:
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

    def to_cpu(self) -> Scatter:
        found = Scatter()
        found.count = self.count
        if self.origin is not None:
            assert isinstance(self.sum, Tensor) and isinstance(self.products, Tensor)
            found.origin, found.sum, found.products = self.origin.cpu(), self.sum.cpu(), self.products.cpu()
        return found

    def merge(self, other: Scatter) -> None:
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


class Measured:
    """Sums over the batches of an evaluation, by name."""

    def __init__(self) -> None:
        self.stats: dict[str, Stat] = {}
        self.scatter: dict[str, Scatter] = {}

    def add(self, name: str, total: float, count: float) -> None:
        self.stats[name] = self.stats.get(name, Stat(0, 0)) + Stat(total, count)

    def compare(self, clean: Output, noisy: Output, rows: int) -> None:
        """For each layer the relative L2 and cosine distances between two views that count as so many examples, and
        the norm of the clean one; its vectors are kept for the rank, which falls with the distances where
        representations collapse."""
        for name, layers in DISTANCES.compare(clean, [noisy])[2].items():
            for layer, value in layers.items():
                self.add(f"{name}/{layer}", rows * float(value), rows)
        for layer, value in layer_norms(clean).items():
            self.add(f"norm/{layer}", rows * float(value), rows)
        for layer, vectors in valid_frames(clean).items():
            self.scatter.setdefault(layer, Scatter()).add(vectors)

    def found(self) -> dict[str, Stat]:
        """All sums, over all processes, and the effective rank of each layer that was compared."""
        everywhere = Measured()
        scatters = {layer: scatter.to_cpu() for layer, scatter in self.scatter.items()}
        for stats, scatters in gathered((self.stats, scatters)):
            for name, stat in stats.items():
                everywhere.add(name, stat.total, stat.count)
            for layer, scatter in scatters.items():
                everywhere.scatter.setdefault(layer, Scatter()).merge(scatter)
        ranks = {f"rank/{layer}": Stat(scatter.effective_rank(), 1) for layer, scatter in everywhere.scatter.items()}
        return {**everywhere.stats, **ranks}
