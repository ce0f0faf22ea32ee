"""Layers of two views as vectors that distances are taken of, with their weights in the average."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

import torch
from torch import Tensor

from irl.core.output import Output, lens_to_mask
from irl.objective.distances import PER_UNIT, Distance
from irl.objective.pair_sums import wide, with_signature


class Compared(NamedTuple):
    """Vectors a and b (N, M, D), their weights (N, M) in the average, and a factor (N, M) of means over units. padded:
    whether vectors of weight 0 are padding, which may hold anything."""

    a: Tensor
    b: Tensor
    weights: Tensor
    per_unit: Tensor | None = None
    padded: bool = False

    def average(self, distances: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scales = {} if self.per_unit is None else dict.fromkeys(PER_UNIT, self.per_unit)
        weighted = {n: (d * scales[n] if n in scales else d) * self.weights for n, d in distances.items()}
        # Padding may hold NaN or infinite values.
        return {n: torch.where(self.weights > 0, w, 0.0).sum() if self.padded else w.sum() for n, w in weighted.items()}


def averages(distance: Distance, compared: Sequence[Compared], layers: int) -> dict[str, Tensor]:
    """Every elementary distance by its name, unweighted, averaged over vectors and over the pairs of each layer,
    (layers,). compared: all pairs of the first layer, then all pairs of the second, and so on."""
    pairs = [(c.a, c.b) for c in compared]
    at_once = distance.at_once(pairs) if all(c.per_unit is None for c in compared) else None
    if at_once is None:
        each = [c.average(distances) for c, distances in zip(compared, distance.parts(pairs))]
        means = {name: torch.stack([own[name] for own in each]) for name in each[0]}
    else:
        weights = torch.cat([c.weights.flatten() for c in compared])
        # Padding may hold NaN or infinite values.
        weighted = torch.where(weights > 0, at_once * weights, 0.0)
        sizes = [c.weights.numel() for c in compared]
        if len(set(sizes)) == 1:
            sums = weighted.unflatten(1, (-1, sizes[0])).sum(2)
        else:
            sums = torch.stack([part.sum(1) for part in weighted.split(sizes, 1)], 1)
        means = {part.name: row for (_, part), row in zip(distance.weighted, sums)}
    if len(compared) == layers:
        return means
    return {name: values.unflatten(0, (layers, -1)).mean(1) for name, values in means.items()}


def compared_vectors(
    pair: tuple[Output, Output],
    layer: str,
    detach: str,
    over: str,
    size: float | None,
    sample_weight: float,
    of_logits: bool = False,
    instance: bool = False,
) -> Compared:
    """One layer of a pair of views as vectors, with their weights in the average over frames and `size` samples.

    detach: side that is held constant, "clean" (the first), "noisy" or "none". over: "frame" or "sample", as in
    IRLLoss. size: None for the number of these samples. of_logits: as distributions, one a position, of (N, ..., C) or,
    without lengths, of images (N, C, H, W). instance: after `instance_norm`. The lengths are the second's. Raises
    ValueError where the layer is no tensor, or not of one shape.
    """
    a, b, lens = _tensors(pair, layer)
    size = len(a) if size is None else size
    if not size:
        raise ValueError(f"layer {layer!r} has no samples: the batch is empty")
    a = a.detach() if detach == "clean" else a
    b = b.detach() if detach == "noisy" else b
    if instance and not of_logits:
        a, b = (instance_norm(x, lens, layer) for x in (a, b))
    dtype = torch.promote_types(a.dtype, torch.float32)
    if lens is None:
        if of_logits:
            a, b = (_positions(x.movedim(1, -1) if x.dim() > 3 else x) for x in (a, b))
        else:
            a, b = (x[:, None] for x in _as_vectors(a, b))
        share = sample_weight / size / a.shape[1]
        return Compared(a, b, torch.full(a.shape[:2], share, dtype=dtype, device=a.device))
    mask = lens_to_mask(lens.to(a.device), a.shape[1])
    if over == "sample":
        # A mean over units counts the padding that is zeroed here: undo that.
        per_unit = mask.shape[1] / mask.sum(1, keepdim=True, dtype=dtype).clamp(min=1)
        a, b = (x.flatten(2).masked_fill(~mask[..., None], 0).flatten(1)[:, None] for x in (a, b))
        alike = torch.full((len(a), 1), sample_weight / size, dtype=dtype, device=a.device)
        return Compared(a, b, alike, per_unit)
    frames = mask.sum(1, keepdim=True, dtype=dtype).clamp(min=1)
    weights = mask * (sample_weight / (frames * size))
    if of_logits:
        a, b = _positions(a), _positions(b)
        each = a.shape[1] // mask.shape[1]  # positions of a frame
        weights, mask = ((x.repeat_interleave(each, 1) if each > 1 else x) for x in (weights / each, mask))
    a, b = (unpadded(x.flatten(2), mask) for x in (a, b))
    return Compared(a, b, weights, padded=True)


def _tensors(pair: tuple[Output, Output], layer: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """The layer of both views, of one shape, and its lengths. Raises ValueError where it is no tensor, or not alike."""
    a, b = (view.named()[layer] for view in pair)
    if not isinstance(a, Tensor):
        raise ValueError(
            f"layer {layer!r} is a {type(a).__name__}, not a tensor: tap the module that computes it, and name that "
            "module in layers"
        )
    if not a.dim():
        raise ValueError(f"layer {layer!r} is a single number, expected a tensor with a dimension of samples")
    # The second view may be another sample, and then has the shorter length of the two.
    lens = pair[1].lens.get(layer)
    if lens is not None and a.shape[1] != b.shape[1]:
        a, b = (x[:, : min(a.shape[1], b.shape[1])] for x in (a, b))
    if a.shape != b.shape:
        raise ValueError(
            f"layer {layer!r} is {tuple(a.shape)} in one view and {tuple(b.shape)} in the other, expected one shape"
            + ("; sequences of different lengths need lens" if lens is None and a.dim() > 2 else "")
        )
    return a, b, lens


def instance_norm(x: Tensor, lens: Tensor | None, layer: str = "") -> Tensor:
    """Every unit of (N, T, ...) with mean 0 and variance 1 over the valid frames of its sample; of images (N, C, H, W),
    every channel over the positions (Ulyanov et al. 2016). In float32 at least; the variance is increased by 1e-5, so a
    unit that does not change is 0. Padding comes out as 0. Raises ValueError for (N, D), where there is nothing to
    average over."""
    if x.dim() < 3:
        raise ValueError(f"layer {layer!r} is {tuple(x.shape)}: normalise='instance' needs frames or positions")
    x = wide(x)
    if lens is None and x.dim() > 3:
        dims, mask = tuple(range(2, x.dim())), torch.ones_like(x[:1, :1], dtype=torch.bool)
    else:
        lens = torch.full((len(x),), x.shape[1], device=x.device) if lens is None else lens.to(x.device)
        dims, mask = (1,), lens_to_mask(lens, x.shape[1])[(...,) + (None,) * (x.dim() - 2)]
    count = mask.sum(dims, keepdim=True).clamp(min=1)
    x = x.masked_fill(~mask, 0)
    centred = (x - x.sum(dims, keepdim=True) / count).masked_fill(~mask, 0)
    return centred * torch.rsqrt(centred.square().sum(dims, keepdim=True) / count + 1e-5)


def _positions(x: Tensor) -> Tensor:
    """(N, ..., C) -> (N, P, C)"""
    return x[:, None] if x.dim() == 2 else x.flatten(1, -2)


@with_signature
class _Unpadded(torch.autograd.Function):
    """x (N, M, D), of which the gradient at padding is 0, whatever stands there."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (mask,) = ctx.saved_tensors
        return grad.masked_fill(~mask[..., None], 0), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return tangent.view_as(tangent)


def unpadded(x: Tensor, mask: Tensor) -> Tensor:
    """Padding may be NaN or infinite: its gradient is 0 without a copy of x. A compiler needs no help for that."""
    return x.masked_fill(~mask[..., None], 0) if torch.compiler.is_compiling() else _Unpadded.apply(x, mask)


def _as_vectors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(N, ...) -> (N, D) each. Distances do not ask for the order of units, so feature maps are taken in the order of
    their memory: channels last they need not be copied."""
    if a.dim() == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in (a, b)):
        a, b = (x.permute(0, 2, 3, 1) for x in (a, b))
    return a.flatten(1), b.flatten(1)
