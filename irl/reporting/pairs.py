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

MEASURE = IRLLoss(alpha=0, beta=0, gamma=1, distance=L2() + Cosine())
COLUMNS = ("l2", "cosine", "norm", "l2_between", "cosine_between")
DERIVED = ("l2_ratio", "effective_rank", "jacobian", "jacobian_error")


@torch.no_grad()
def measure(pairs: Iterable[LayerPair]) -> dict[str, dict[str, float]]:
    """{layer: {column: value}} over batches of views."""
    sums: dict[str, dict[str, float]] = {}
    scatter: dict[str, RunningCovariance] = {}
    count = 0
    squares: dict[str, list[Tensor]] = {}
    for clean, noisy, moved_by in pairs:
        between = next_example(clean)
        moved, scale = (MEASURE.compare(*pair)[2] for pair in ((clean, [noisy]), (clean, [between])))
        values = (moved["l2"], moved["cosine"], layer_norms(clean), scale["l2"], scale["cosine"])
        rows = len(clean.logits)
        count += rows
        for layer, vectors in valid_frames(clean).items():
            scatter.setdefault(layer, RunningCovariance()).add(vectors)
        for layer, own in moved_by.items():
            squares.setdefault(layer, []).append(own.double().cpu())
        for column, layers in zip(COLUMNS, values):
            for layer, value in layers.items():
                line = sums.setdefault(layer, dict.fromkeys(COLUMNS, 0.0))
                line[column] += rows * float(value)
    if not count:
        raise UserError("at least 2 examples are needed")
    means = {layer: {c: v / count for c, v in line.items()} for layer, line in sums.items()}
    for layer, line in means.items():
        line["l2_ratio"] = line["l2"] / max(line["l2_between"], 1e-30)
        line["effective_rank"] = scatter[layer].effective_rank()
        line["l2"], line["l2_between"] = line["l2"] / line["norm"], line["l2_between"] / line["norm"]
        each = torch.cat(squares[layer])
        line["jacobian"] = float(each.mean().sqrt())
        # Of a root: that of the mean over twice the root.
        line["jacobian_error"] = float(each.std() / len(each) ** 0.5) / max(2 * line["jacobian"], 1e-30)
    return means
