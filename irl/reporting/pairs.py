"""Clean and noisy examples as a trained model sees them, layer by layer."""

from __future__ import annotations

from typing import Iterable

import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.output import next_example
from irl.objective import L2, Cosine
from irl.training.layer_stats import LayerPair, LayerStats

# Means over examples, and what is computed from them and from all frames at the end.
COLUMNS = ("l2", "cosine", "norm", "l2_between", "cosine_between")
DERIVED = ("l2_ratio", "effective_rank", "jacobian", "jacobian_error")


@torch.no_grad()
def measure(pairs: Iterable[LayerPair]) -> dict[str, dict[str, float]]:
    """{layer: {column: value}} over batches of clean and noisy outputs.

    l2 and l2_between are divided by the mean norm of the clean activations; "between" is the distance of each example
    to the next one of its batch. Raises UserError without batches.
    """
    stats, squares = LayerStats(L2() + Cosine()), dict[str, list[Tensor]]()
    for pair in pairs:
        rows = len(pair.clean.logits)
        stats.compare(pair.clean, pair.noisy, rows)
        stats.add_distances(pair.clean, next_example(pair.clean), rows, "_between")
        for layer in pair.clean.hidden:
            squares.setdefault(layer, []).append(pair.squares[layer].double().cpu())
    if not squares:
        raise UserError("at least 2 examples are needed")
    return {layer: _summary(layer, stats, torch.cat(values)) for layer, values in squares.items()}


def _summary(layer: str, stats: LayerStats, squares: Tensor) -> dict[str, float]:
    """All columns of a layer. squares: of its Jacobian, one an example."""
    line = {column: stats.stats[f"{column}/{layer}"].mean for column in COLUMNS}
    line["l2_ratio"] = line["l2"] / max(line["l2_between"], 1e-30)
    line["effective_rank"] = stats.covariances[layer].effective_rank()
    line["l2"], line["l2_between"] = line["l2"] / line["norm"], line["l2_between"] / line["norm"]
    line["jacobian"] = float(squares.mean().sqrt())
    # The standard error of a root is that of the mean over twice the root.
    line["jacobian_error"] = float(squares.std() / len(squares) ** 0.5) / max(2 * line["jacobian"], 1e-30)
    return line
