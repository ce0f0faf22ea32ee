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
    """The layers as logarithms of the mean of the views' distributions: over the last dimension, or over the channels
    of images without lengths."""
    named, lens = [view.named() for view in views], views[0].lens

    def mixed(layer: str) -> Tensor:
        dim = 1 if named[0][layer].dim() > 3 and layer not in lens else -1
        logs = torch.stack([wide(values[layer]).log_softmax(dim) for values in named])
        return logs.logsumexp(0) - math.log(len(views))

    found = {layer: mixed(layer) for layer in layers}
    return Output(found.pop("logits", None), found, lens)
