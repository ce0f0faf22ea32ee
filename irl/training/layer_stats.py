"""What is measured of hidden states on clean and noisy examples: distances, norms, effective ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable, NamedTuple

from torch import Tensor

from irl.core.logging import progress
from irl.core.output import Output, lens_to_mask
from irl.objective import L2, Cosine, Distance, IRLLoss
from irl.objective.vicreg import vectors_of
from irl.training.distributed import all_gather
from irl.training.running_covariance import RunningCovariance

RELATIVE = L2("relative") + Cosine()


@dataclass(frozen=True)
class Stat:
    """A sum and the number of things summed: divided once, at the end (law 5)."""

    total: float
    count: float

    def __add__(self, other: Stat) -> Stat:
        return Stat(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan


class LayerPair(NamedTuple):
    """Outputs for a batch of N examples and for their noisy copies, and for each layer |J_l xi|^2 of the clean ones,
    (N,), with xi ~ N(0, I) on the input, normalised images, features or embeddings, so that its mean is |J_l|_F^2; of
    layers with lengths a mean over frames."""

    clean: Output
    noisy: Output
    squares: dict[str, Tensor]


def batches(count: int, size: int) -> Iterable[slice]:
    """A last example that would be alone, with no other to be compared with, joins the batch before it."""
    begins = list(range(0, count - 1, size))
    return progress([slice(*ends) for ends in zip(begins, [*begins[1:], None])], "analyse", unit="batch")


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


class LayerStats:
    """Sums over the batches of an evaluation, by name. distance: its elementary ones are measured."""

    def __init__(self, distance: Distance = RELATIVE) -> None:
        self.objective = IRLLoss(alpha=0, beta=0, gamma=1, distance=distance)
        self.stats: dict[str, Stat] = {}
        self.covariances: dict[str, RunningCovariance] = {}

    def add(self, name: str, total: float, count: float) -> None:
        self.stats[name] = self.stats.get(name, Stat(0, 0)) + Stat(total, count)

    def compare(self, clean: Output, noisy: Output, rows: int) -> None:
        """For each layer the distances between two views that count as so many examples, and the norm of the clean
        one; its vectors are kept for the rank, which falls with the distances where representations collapse."""
        self.add_distances(clean, noisy, rows)
        for layer, value in layer_norms(clean).items():
            self.add(f"norm/{layer}", rows * float(value), rows)
        for layer in clean.hidden:
            self.covariances.setdefault(layer, RunningCovariance()).add(vectors_of(clean, layer))

    def add_distances(self, clean: Output, other: Output, rows: int, suffix: str = "") -> None:
        """As NAME + suffix/LAYER."""
        for name, layers in self.objective.compare(clean, [other])[2].items():
            for layer, value in layers.items():
                self.add(f"{name}{suffix}/{layer}", rows * float(value), rows)

    def result(self) -> dict[str, Stat]:
        """The sums over all processes by name, and the effective rank of each layer that was compared."""
        everywhere = LayerStats()
        own = {layer: covariance.to_cpu() for layer, covariance in self.covariances.items()}
        for stats, covariances in all_gather((self.stats, own)):
            for name, stat in stats.items():
                everywhere.add(name, stat.total, stat.count)
            for layer, covariance in covariances.items():
                everywhere.covariances.setdefault(layer, RunningCovariance()).merge(covariance)
        ranks = {f"rank/{layer}": Stat(c.effective_rank(), 1) for layer, c in everywhere.covariances.items()}
        return {**everywhere.stats, **ranks}
