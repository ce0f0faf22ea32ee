"""Layers of two views as vectors that distances are taken of, with their weights in the average."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

import torch
from torch import Tensor

from irl.core.output import Output, lens_to_mask
from irl.objective.distances import PER_UNIT


class Compared(NamedTuple):
    """Vectors a and b (N, M, D), their weights (N, M) in the average, and a factor (N, M) of means over units."""

    a: Tensor
    b: Tensor
    weights: Tensor
    per_unit: Tensor | None = None

    def average(self, distances: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scales = {} if self.per_unit is None else dict.fromkeys(PER_UNIT, self.per_unit)
        return {n: ((d * scales[n] if n in scales else d) * self.weights).sum() for n, d in distances.items()}


def compared_vectors(
    pair: tuple[Output, Output],
    layer: str,
    detach: str,
    over: str,
    size: float | None,
    sample_weight: float,
    known: dict[Any, Tensor],
) -> Compared:
    """One layer of a pair of views as vectors, with their weights in the average over frames and `size` samples.

    detach: side that is held constant, "clean" (the first), "noisy" or "none". over: "frame" or "sample", as in
    IRLLoss. size: None for the number of these samples. known: masks and weights of the layers before; layers of the
    same lengths share them. Raises ValueError where the layer is no tensor.
    """
    a_out, b_out = pair
    a, b = a_out.named()[layer], b_out.named()[layer]
    if not isinstance(a, Tensor):
        raise ValueError(
            f"layer {layer!r} is a {type(a).__name__}, not a tensor: choose what to compare by tap's select"
        )
    a = a.detach() if detach == "clean" else a
    b = b.detach() if detach == "noisy" else b
    # b may be another sample, and then has the shorter length of the two.
    lens = b_out.lens.get(layer)
    size = len(a) if size is None else size
    dtype = torch.promote_types(a.dtype, torch.float32)
    if lens is None or over == "sample":
        share = lambda: torch.full((len(a), 1), sample_weight / size, dtype=dtype, device=a.device)  # noqa: E731
        alike = _once(known, (len(a), dtype, a.device), share)
    if lens is None:
        a, b = _as_vectors(a, b)
        return Compared(a[:, None], b[:, None], alike)
    a, b = a.flatten(2), b.flatten(2)
    key = (0 if torch.compiler.is_compiling() else lens.data_ptr(), lens.stride(), a.shape[:2], a.device)
    mask = _once(known, key, lambda: lens_to_mask(lens.to(a.device), a.shape[1]))
    if over == "sample":
        # A mean over units counts the padding that is zeroed here: undo that.
        per_unit = mask.shape[1] / mask.sum(1, keepdim=True, dtype=dtype).clamp(min=1)
        a, b = (x.masked_fill(~mask[..., None], 0).flatten(1)[:, None] for x in (a, b))
        return Compared(a, b, alike, per_unit)

    def frame_weights() -> Tensor:
        frames = mask.sum(1, keepdim=True, dtype=dtype).clamp(min=1)
        return mask * (sample_weight / (frames * size))

    return Compared(a, b, _once(known, (*key, dtype), frame_weights))


def _once(known: dict[Any, Tensor], key: Any, make: Callable[[], Tensor]) -> Tensor:
    """The tensor known by this key, made at its first use. A compiler does that by itself."""
    if torch.compiler.is_compiling():
        return make()
    if key not in known:
        known[key] = make()
    return known[key]


def _as_vectors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(N, ...) -> (N, D) each. Distances do not ask for the order of units, so feature maps are taken in the order of
    their memory: channels last they need not be copied."""
    if a.dim() == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in (a, b)):
        a, b = (x.permute(0, 2, 3, 1) for x in (a, b))
    return a.flatten(1), b.flatten(1)
