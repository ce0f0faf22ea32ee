"""Hidden states of any nn.Module, by forward hooks, as the Output that the objective reads (law 3)."""

from __future__ import annotations

import functools
from typing import Any, Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from irl.core.output import Output

Select = Callable[[Any], Tensor]


class TappedModel(nn.Module):
    """A model whose forward returns Output; see `tap`. The model itself is `.model`, unchanged but for its hooks."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        select: Select | Mapping[str, Select] | None,
        batch_dim: int | Mapping[str, int],
        lens_fn: Callable[[Any], Tensor | Mapping[str, Tensor]] | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.layers = list(layers)
        self.lens_fn = lens_fn
        # What the hooks keep during a forward pass of this wrapper; None outside, when the model is called by itself.
        self._seen: dict[str, tuple[Tensor, int | None]] | None = None
        self._inputs: tuple[Any, ...] = ()
        modules = dict(model.named_modules())
        if isinstance(layers, str) or not self.layers:
            raise ValueError(f"layers must be a sequence of at least one module name, got {layers!r}")
        by_name = [x for x in (select, batch_dim) if isinstance(x, Mapping)]
        for name in [*self.layers, *(key for mapping in by_name for key in mapping)]:
            if name not in modules or not name:
                known = ", ".join(n for n in modules if n)
                raise ValueError(f"unknown layer {name!r} of {type(model).__name__}, known are {known}")
        for name in self.layers:
            pick = select.get(name) if isinstance(select, Mapping) else select
            dim = batch_dim.get(name, 0) if isinstance(batch_dim, Mapping) else batch_dim
            modules[name].register_forward_hook(functools.partial(self._keep, name, pick, dim))

    def _keep(self, name: str, pick: Select | None, dim: int, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._seen is None:
            return
        if name in self._seen:
            raise ValueError(
                f"layer {name!r} was called twice in one forward pass, so its output is ambiguous; "
                "tap a module that is called once"
            )
        value = output if pick is None else pick(output)
        if not isinstance(value, Tensor):
            what = "returned" if pick is None else "was reduced by select to"
            raise ValueError(
                f"layer {name!r} {what} {type(value).__name__}, not a tensor; "
                "choose the tensor: tap(..., select=lambda output: output[0])"
            )
        # Inference tensors carry no version counter, and a compiler does not trace it: run once uncompiled to check.
        tracked = not torch.compiler.is_compiling() and not value.is_inference()
        version = value._version if tracked else None
        value = value.movedim(dim, 0) if dim else value
        rows = next((len(x) for x in self._inputs if isinstance(x, Tensor) and x.dim()), len(value))
        if len(value) != rows:
            raise ValueError(
                f"the output of layer {name!r} has {len(value)} rows where the batch has {rows}; say where its batch "
                f"is, tap(..., batch_dim={{{name!r}: 1}}), or reshape it by select"
            )
        self._seen[name] = (value, version)

    def forward(self, *args: Any, **kwargs: Any) -> Output:
        seen = self._seen = {}
        self._inputs = (*args, *kwargs.values())
        try:
            logits = self.model(*args, **kwargs)
        finally:
            self._seen, self._inputs = None, ()
        for name in self.layers:
            if name not in seen:
                raise ValueError(f"layer {name!r} was not called in this forward pass; tap a module that is")
            value, version = seen[name]
            # A view shares its base's counter, so movedim above does not hide an overwrite.
            if version is not None and value._version != version:
                raise ValueError(
                    f"the output of layer {name!r} was overwritten in place after it was returned (an in-place "
                    "activation?); tap the module that overwrites it, or build the model with inplace=False"
                )
        hidden = {name: value for name, (value, _) in seen.items()}
        lens: Mapping[str, Tensor] = {}
        if self.lens_fn is not None:
            found = self.lens_fn(logits)
            lens = dict.fromkeys(hidden, found) if isinstance(found, Tensor) else found
        return Output(logits, hidden, lens)


def tap(
    model: nn.Module,
    layers: Sequence[str],
    select: Select | Mapping[str, Select] | None = None,
    batch_dim: int | Mapping[str, int] = 0,
    lens_fn: Callable[[Any], Tensor | Mapping[str, Tensor]] | None = None,
) -> TappedModel:
    """Wrap a model so that it returns Output(logits, hidden, lens): logits is what the model returned.

    layers: names as in model.named_modules(); hidden holds their outputs in the order in which they were called.
    select: for modules that return tuples, the function that picks the tensor; one for all layers or one by name.
    batch_dim: the batch dimension of the layers' outputs, moved to the front; one for all or by name.
    lens_fn: from what the model returned to int64 lengths (N,) of the tapped sequences (N, T, ...), one for all layers
        or by name. Without it nothing is padding.

    Raises ValueError, with the remedy, for unknown layers, for outputs that are no tensors, for modules that are called
    twice in a forward pass, and for outputs overwritten in place. DDP and torch.compile wrap the tapped model:
    DDP(tap(model, ...)).
    """
    return TappedModel(model, layers, select, batch_dim, lens_fn)
