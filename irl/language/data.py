"""Batches of text."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from irl.training.distributed import BatchTotals


class Batch(NamedTuple):
    """Views (B, T) of the same rows of text and the words that follow, y (B, T). clean is None where no term looks at
    it. first: the rows begin here, with states of zero. ids: where in the text each row begins. totals: the size of the
    global batch, with its words."""

    ids: Tensor
    clean: Tensor | None
    noisy: list[Tensor]
    y: Tensor
    first: bool
    totals: BatchTotals
