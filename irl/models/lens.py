"""Lengths of the sequences that tapped layers return: read from a pass, and checked."""

from __future__ import annotations

from typing import Any, Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, instancenorm, pooling

_CHANNELS_FIRST = (
    conv._ConvNd,
    batchnorm._BatchNorm,
    instancenorm._InstanceNorm,
    nn.GroupNorm,
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
)


def is_channels_first(module: nn.Module) -> bool:
    """Whether a module returns (N, C, T), by its type."""
    return isinstance(module, _CHANNELS_FIRST)


def lens_of_layers(
    found: Any,
    hidden: Mapping[str, Tensor | None],
    logits: Any,
    channels_first: Collection[str],
    known: Collection[str],
    measure: bool,
) -> dict[str, Tensor]:
    """int64 lengths (N,) by layer from what a user's function returned: one tensor for all layers that are sequences
    (N, T, ...), or one by name.

    One for all belongs to "logits" too, where the model returned a tensor (N, T, ...) as long as one of the layers.
    channels_first: layers (N, C, T) whose time_dim was not said. known: names that may have lengths. measure: whether
    the numbers are looked at, which on a GPU waits for the device. Raises ValueError, with the remedy, for anything
    else than integers in [0, T].
    """
    layers = {name: value for name, value in hidden.items() if value is not None}
    if isinstance(found, Mapping):
        for name in found:
            if name not in known:
                raise ValueError(f"lens names an unknown layer {name!r}, known are {', '.join(known)}")
        if isinstance(logits, Tensor):
            layers["logits"] = logits
        by_layer = {name: found[base] for name in layers for base in (name, name.split("[")[0]) if base in found}
    elif isinstance(found, Tensor):
        layers = {name: value for name, value in layers.items() if value.dim() > 2}
        if isinstance(logits, Tensor) and logits.dim() > 2 and logits.shape[1] in {x.shape[1] for x in layers.values()}:
            layers["logits"] = logits
        by_layer = dict.fromkeys(layers, found)
    else:
        raise ValueError(f"lens must give an integer tensor (rows,), or one by layer, got {type(found).__name__}")
    return {name: _checked(name, n, layers[name], name in channels_first, measure) for name, n in by_layer.items()}


def _checked(name: str, lens: Any, value: Tensor, channels_first: bool, measure: bool) -> Tensor:
    what = f"lens of layer {name!r}"
    if not isinstance(lens, Tensor):
        raise ValueError(f"{what} must be an integer tensor (rows,), got {type(lens).__name__}")
    if value.dim() < 3:
        raise ValueError(f"{what}: its output {tuple(value.shape)} is no sequence (N, T, ...); leave it out of lens")
    if channels_first:
        raise ValueError(
            f"{what}: its output {tuple(value.shape)} is (N, C, T); say tap(..., time_dim={{{name!r}: 2}}), or give "
            "lens by name for other layers"
        )
    rows, frames = value.shape[:2]
    if lens.dim() == 2 and lens.shape[0] == rows:
        raise ValueError(f"{what} is a mask {tuple(lens.shape)}, expected integers (rows,): give mask.sum(1)")
    if lens.is_floating_point() or lens.is_complex() or lens.dtype == torch.bool:
        raise ValueError(
            f"{what} is {str(lens.dtype).removeprefix('torch.')}, expected integers: fractions of the longest become "
            f"frames by (fractions * {frames}).round().long()"
        )
    if lens.shape != (rows,):
        raise ValueError(
            f"{what} has shape {tuple(lens.shape)} for {rows} rows; read it from the inputs or the output of the pass, "
            "which hold all stacked views: tap(..., lens=lambda inputs, output: inputs[1])"
        )
    if measure and rows:
        low, high = (int(x) for x in lens.aminmax())
        if low < 0 or high > frames:
            raise ValueError(
                f"{what} lies in [{low}, {high}], but its output {tuple(value.shape)} has T = {frames} frames; count "
                f"frames of this layer, not samples of the input, or say where its time is: time_dim={{{name!r}: 2}}"
            )
    return lens.long()
