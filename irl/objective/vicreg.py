"""Terms against collapse that stand beside a distance: variance and covariance (Bardes, Ponce, LeCun, VICReg, 2022).

    variance   v(Z) = 1/D sum_j max(0, 1 - sqrt(Var(z_j) + 1e-4))
    covariance c(Z) = 1/D sum_{i != j} Cov(z_i, z_j)^2

of P vectors Z (P, D), with the unbiased estimates. A layer of sequences gives its valid frames, a layer of images its
channels at every position, a layer (N, D) its samples.
"""

from __future__ import annotations

from typing import Mapping, Sequence

import torch
from torch import Tensor

from irl.core.output import Output, lens_to_mask
from irl.objective.pair_sums import wide


def vectors_of(view: Output, layer: str) -> Tensor:
    """All vectors (P, D) of a layer of one view, padding left out."""
    x = view.named()[layer]
    if not isinstance(x, Tensor) or x.dim() < 2:
        raise ValueError(
            f"layer {layer!r}: variance and covariance need a tensor (N, ..., D), found {type(x).__name__}"
        )
    lens = view.lens.get(layer)
    if lens is not None:
        return x[lens_to_mask(lens.to(x.device), x.shape[1])].flatten(1)
    return x.movedim(1, -1).flatten(0, -2) if x.dim() > 3 else x.flatten(0, -2)


def variance_and_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """v(Z) and c(Z) of vectors (P, D), in float32 at least; both 0 for fewer than two vectors."""
    z = wide(z)
    if len(z) < 2:
        return z.new_zeros(()), z.new_zeros(())
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    variance = covariance.diagonal()
    # Off the diagonal, without a copy: the sum of all squares less those on it would cancel.
    off = covariance - torch.diag(variance)
    return torch.relu(1 - (variance + 1e-4).sqrt()).mean(), off.square().sum() / len(variance)


def regularisers(views: Sequence[Output], layers: Mapping[str, float], size: float | None) -> tuple[Tensor, Tensor]:
    """Both terms summed over the layers by their weights and, as in the paper, over the views. size: samples of the
    whole batch, where these are a part of it that has its share of the sum; None if they are all. A layer that a pass
    skipped has no term."""
    sums = [torch.zeros(2)]
    for view in views:
        for layer, weight in layers.items():
            x = view.named()[layer]
            if x is not None:
                share = 1.0 if size is None else len(x) / size
                sums.append(weight * share * torch.stack(variance_and_covariance(vectors_of(view, layer))))
    variance, covariance = torch.stack([term.to(sums[-1]) for term in sums]).sum(0)
    return variance, covariance
