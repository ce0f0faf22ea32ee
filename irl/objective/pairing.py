"""Which views of a batch are compared with each other."""

from __future__ import annotations

import itertools
import math
from typing import Iterable, Literal, Sequence

import torch
from torch import Tensor

from irl.core.output import Output, next_example, shorter
from irl.objective.pair_sums import wide

Pairs = Literal["clean", "noisy", "all", "in_batch", "mixture"]


def pairs_of(
    kind: Pairs, clean: Output | None, noisy: Sequence[Output], layers: Iterable[str]
) -> list[tuple[Output, Output]]:
    """The pairs of views that are compared, see `IRLLoss`. layers: those that are compared."""
    views = ([] if clean is None else [clean]) + list(noisy)
    if kind == "in_batch":
        return [(view, next_example(view)) for view in views]
    if kind == "mixture":
        mixed = mixture(views, layers)
        return [(view, mixed) for view in views]
    pairs: list[tuple[Output, Output]] = []
    if kind in ("clean", "all"):
        assert clean is not None
        pairs += [(clean, copy) for copy in noisy]
    if kind in ("noisy", "all"):
        if len(noisy) < 2:
            raise ValueError(f"pairs={kind!r} needs at least 2 noisy copies, got {len(noisy)}")
        pairs += itertools.combinations(noisy, 2)
    return [(a, shorter(a, b)) for a, b in pairs]


def mixture(views: Sequence[Output], layers: Iterable[str]) -> Output:
    """The logarithms of the mean of the views' distributions, of each layer: over its last dimension, or over the
    channels of images without lengths. Its lengths are the shortest. Raises ValueError for layers that are no tensors
    of one shape."""
    named = [view.named() for view in views]
    lens = views[0].lens
    for view in views[1:]:
        lens = shorter(Output(None, {}, lens), view).lens

    def mixed(layer: str) -> Tensor:
        logits = [values[layer] for values in named]
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in logits]
        if not isinstance(logits[0], Tensor) or len(set(shapes)) > 1:
            raise ValueError(f"pairs='mixture' needs tensors of one shape, layer {layer!r} is {shapes}")
        dim = 1 if logits[0].dim() > 3 and layer not in lens else -1
        logs = torch.stack([wide(x).log_softmax(dim) for x in logits])
        # What all views exclude has no gradient.
        gone = logs.isneginf().all(0)
        return (logs.masked_fill(gone, 0).logsumexp(0) - math.log(len(views))).masked_fill(gone, -math.inf)

    found = {layer: mixed(layer) for layer in layers}
    return Output(found.pop("logits", None), found, lens)
