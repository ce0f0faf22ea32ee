"""Clean and noisy examples as a trained model sees them, layer by layer."""

from __future__ import annotations

from typing import Iterable

import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.output import next_example
from irl.objective import L2, Cosine, IRLLoss
from irl.training.layer_stats import LayerPair, layer_norms, valid_frames
from irl.training.running_covariance import RunningCovariance

DISTANCES = IRLLoss(alpha=0, beta=0, gamma=1, distance=L2() + Cosine())

# Means over examples, and what is computed from them and from all frames at the end.
COLUMNS = ("l2", "cosine", "norm", "l2_between", "cosine_between")
DERIVED = ("l2_ratio", "effective_rank", "jacobian", "jacobian_error")


class _Layer:
    """Sums over the batches for one layer."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(COLUMNS, 0.0)
        self.vectors = RunningCovariance()
        self.squares: list[Tensor] = []

    def summary(self, count: int) -> dict[str, float]:
        """All columns, from the sums over so many examples."""
        line = {column: total / count for column, total in self.sums.items()}
        line["l2_ratio"] = line["l2"] / max(line["l2_between"], 1e-30)
        line["effective_rank"] = self.vectors.effective_rank()
        line["l2"], line["l2_between"] = line["l2"] / line["norm"], line["l2_between"] / line["norm"]
        squares = torch.cat(self.squares)
        line["jacobian"] = float(squares.mean().sqrt())
        # The standard error of a root is that of the mean over twice the root.
        line["jacobian_error"] = float(squares.std() / len(squares) ** 0.5) / max(2 * line["jacobian"], 1e-30)
        return line


@torch.no_grad()
def measure(pairs: Iterable[LayerPair]) -> dict[str, dict[str, float]]:
    """{layer: {column: value}} over batches of clean and noisy outputs.

    l2 and l2_between are divided by the mean norm of the clean activations; "between" is the distance of each example
    to the next one of its batch. Raises UserError without batches.
    """
    layers: dict[str, _Layer] = {}
    count = 0
    for pair in pairs:
        clean = pair.clean
        moved, between = (DISTANCES.compare(clean, [other])[2] for other in (pair.noisy, next_example(clean)))
        values = (moved["l2"], moved["cosine"], layer_norms(clean), between["l2"], between["cosine"])
        rows = len(clean.logits)
        count += rows
        for name, vectors in valid_frames(clean).items():
            layer = layers.setdefault(name, _Layer())
            layer.vectors.add(vectors)
            layer.squares.append(pair.squares[name].double().cpu())
            for column, by_layer in zip(COLUMNS, values):
                layer.sums[column] += rows * float(by_layer[name])
    if not count:
        raise UserError("at least 2 examples are needed")
    return {name: layer.summary(count) for name, layer in layers.items()}
