"""Activation regularisation of recurrent layers (Merity, McCann, Socher 2017): small states that change slowly.

    AR  = mean over steps and units of h_t^2
    TAR = mean over steps and units of (h_t - h_{t+1})^2

The means are over a sample's (valid) steps, then over samples. The paper takes AR after dropout; here states are those
that the model returns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irl.core.output import lens_to_mask
from irl.objective.pair_sums import wide


def ar_and_tar(h: Tensor, lens: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """AR and TAR of a layer's states (N, T, D), scalars in float32 at least. lens (N,): valid steps, None for all of
    them. A sample of one step has no change: its TAR is 0."""
    h = wide(h)
    lens = torch.full((len(h),), h.shape[1], device=h.device) if lens is None else lens.to(h.device)
    mask = lens_to_mask(lens, h.shape[1])
    squares = h.square().mean(-1).masked_fill(~mask, 0)
    changes = (h[:, 1:] - h[:, :-1]).square().mean(-1).masked_fill(~mask[:, 1:], 0)
    ar = squares.sum(1) / lens.clamp(min=1)
    tar = changes.sum(1) / (lens - 1).clamp(min=1)
    return ar.mean(), tar.mean()
