"""A distance without gradient?"""

from __future__ import annotations

import functools
from typing import Mapping, Sequence

import torch
from torch import Tensor

from irl.core.logging import logger


def check_gradient(total: Tensor, dist: Tensor, layers: Mapping[str, Sequence[Tensor]]) -> None:
    """A distance that cannot reach any weight, beside a loss that can, would be without effect.

    total: the task loss. layers: the values of every view by compared layer. Raises ValueError where dist has no
    gradient, and logs once which of several layers have none.
    """
    constant = [name for name, values in layers.items() if not any(value.requires_grad for value in values)]
    if not layers or not (torch.is_grad_enabled() and total.requires_grad) or (dist.requires_grad and not constant):
        return
    why = (
        "their weights may be frozen, under torch.no_grad(), in a checkpoint with use_reentrant=True (take "
        "use_reentrant=False), or replaced by LoRA after the tap (tap the model that trains)"
    )
    if not dist.requires_grad:
        raise ValueError(
            f"the distance has no gradient, so that gamma is without effect, in layers {', '.join(layers)}: {why}; "
            "tap layers that are trained, or set gamma=0"
        )
    if not torch.compiler.is_compiling():
        _warn_of_constant(tuple(constant), why)


@functools.cache
def _warn_of_constant(layers: tuple[str, ...], why: str) -> None:
    logger.warning("the distance has no gradient in layers %s: %s", ", ".join(layers), why)
