"""The terms of one step, as the objective returns them."""

from __future__ import annotations

from typing import Mapping, NamedTuple

from torch import Tensor


class Terms(NamedTuple):
    """The terms of one step, each a scalar tensor (mean over the batch).

    total = alpha * clean + beta * noisy + gamma * dist, with the gamma of this step. clean and noisy are 0 where
    their view was not forwarded. per_layer: d_l of each layer, before its weight gamma_l. parts: each elementary
    distance of each layer by names, before its weight in the sum, as `parts["cosine"]["encoder.3"]`. extra: further
    terms in total, before their weights: "variance" and "covariance", and those that a task has added.
    """

    total: Tensor
    clean: Tensor
    noisy: Tensor
    dist: Tensor
    per_layer: dict[str, Tensor]
    parts: dict[str, dict[str, Tensor]]
    gamma: float
    extra: Mapping[str, Tensor] = {}
