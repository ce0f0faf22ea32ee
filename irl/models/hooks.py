"""Forward hooks that keep what chosen modules return, while a pass asks for it."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Literal, Mapping, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from irl.core.output import SEPARATE

Pick = Callable[[Any], Tensor] | int | str | tuple[int | str, ...]
Calls = Literal["once", "all", "last", "stack"]


class Kept(NamedTuple):
    """One output of a layer, batch first, and the version that an overwriting in place would change; None: unknown."""

    name: str
    value: Tensor
    version: int | None


class Recorder:
    """Keeps the outputs of the layers of one tap. It does not know the tapped model, which can therefore be freed.

    layers: by name, how to select the tensor, its batch dimension (None: 0) and its time dimension (None: 1).
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        layers: Mapping[str, tuple[Pick | None, int | None, int | None]],
        calls: Calls,
        copy: bool,
    ) -> None:
        self.modules, self.layers, self.calls, self.copy = dict(modules), dict(layers), calls, copy
        # In the order of the calls during a pass of the wrapper; None outside, when the model is called by itself.
        self.kept: list[Kept] | None = None
        self.inputs: list[torch.Size] = []
        for name, module in self.modules.items():
            _hook_of(module).recorders.append((self, name))

    def detach(self) -> None:
        for module in self.modules.values():
            hook = _hook_of(module)
            hook.recorders = [(recorder, name) for recorder, name in hook.recorders if recorder is not self]
            if not hook.recorders:
                module._forward_hooks.pop(next(k for k, known in module._forward_hooks.items() if known is hook))

    def start(self, inputs: Iterable[Any]) -> list[Kept]:
        self.inputs = [x.shape for x in inputs if isinstance(x, Tensor) and x.dim()]
        kept: list[Kept] = []
        self.kept = kept
        return kept

    def stop(self) -> None:
        self.kept, self.inputs = None, []

    def keep(self, name: str, module: nn.Module, output: Any) -> None:
        if self.kept is None:
            return
        if self.calls == "once" and any(known.name == name for known in self.kept):
            raise ValueError(
                f"layer {name!r} was called twice in one forward pass, so its output is ambiguous; tap a module that "
                "is called once, or say which calls: tap(..., calls='all'), 'last', or 'stack' for the steps of a cell"
            )
        select, batch_dim, time_dim = self.layers[name]
        value = output if select is None else pick(select, output)
        if isinstance(value, PackedSequence):
            value, _ = pad_packed_sequence(value, batch_first=True)  # in the order of the batch
        if not isinstance(value, Tensor):
            what = "returned" if select is None else "was reduced by select to"
            raise ValueError(
                f"layer {name!r} {what} {type(value).__name__}, not a tensor; "
                "choose the tensor: tap(..., select=0), an index, a name, or a function of the output"
            )
        self._check_batch(name, module, output, value)
        if value.is_nested:
            value = value.to_padded_tensor(0.0)
        # A compiler does not trace version counters, so a copy is kept there; inference tensors have none.
        compiling = torch.compiler.is_compiling()
        if self.copy or compiling:
            value = value.clone()
        version = None if self.copy or compiling or value.is_inference() else value._version
        if time_dim is not None:
            value = value.movedim((batch_dim or 0, time_dim), (0, 1))
        elif batch_dim:
            value = value.movedim(batch_dim, 0)
        # An explicit batch_dim is believed where the inputs have that size anywhere: they may have time first.
        sizes = {n for shape in self.inputs for n in (shape[:1] if batch_dim is None else shape)}
        if sizes and len(value) not in sizes:
            raise ValueError(
                f"the output of layer {name!r} has {len(value)} rows where the batch has {self.inputs[0][0]}; say "
                f"where its batch is, tap(..., batch_dim={{{name!r}: {0 if batch_dim else 1}}}), or reshape it by "
                "select"
            )
        self.kept.append(Kept(name, value, version))

    def _check_batch(self, name: str, module: nn.Module, output: Any, value: Tensor) -> None:
        """Modules of torch say whether their batch is first."""
        attention = getattr(module, "self_attn", module)
        own = value is output or (isinstance(output, tuple) and value is output[0])
        if own and value.dim() == 3 and self.layers[name][1] is None:
            if getattr(attention, "batch_first", True) is False:
                raise ValueError(
                    f"the output of layer {name!r} is time first (batch_first=False); say where its batch is, "
                    f"tap(..., batch_dim={{{name!r}: 1}}), and where inputs are time first too, use {SEPARATE}"
                )


class _Hook:
    """The hook of one module for all taps of it. Files and copies of the module hold one that keeps nothing."""

    def __init__(self) -> None:
        self.recorders: list[tuple[Recorder, str]] = []

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        for recorder, name in self.recorders:
            recorder.keep(name, module, output)

    def __reduce__(self) -> Any:
        return _Hook, ()


def _hook_of(module: nn.Module) -> _Hook:
    for known in module._forward_hooks.values():
        if isinstance(known, _Hook):
            return known
    hook = _Hook()
    module.register_forward_hook(hook)
    return hook


def pick(key: Pick, output: Any) -> Any:
    """By a function, by an index or name, or by several of them, one after another."""
    if callable(key):
        return key(output)
    for part in key if isinstance(key, tuple) else (key,):
        try:
            output = getattr(output, part) if isinstance(part, str) and hasattr(output, part) else output[part]
        except (TypeError, KeyError, IndexError):
            raise ValueError(f"there is no {part!r} in the {type(output).__name__} that a layer returned") from None
    return output


# What wrappers call the module that they run unchanged.
_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")


def locate(model: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether a compiler stands between the model and its module of this name. Raises ValueError where the name now
    belongs to another module."""
    compiled, here = False, model
    for part in name.split("."):
        compiled |= here._compiled_call_impl is not None or "_orig_mod" in here._modules
        here = getattr(here, part, nn.Identity())
    while here is not module:
        compiled |= here._compiled_call_impl is not None or "_orig_mod" in here._modules
        inner = next((here._modules[w] for w in _WRAPPED if w in here._modules), None)
        if inner is None:
            raise ValueError(
                f"layer {name!r} was replaced after it was tapped (by LoRA, quantisation, surgery?), so that the tap "
                "sees a part of it or nothing; tap the model again: tap(model.model, ...)"
            )
        here = inner
    return compiled or here._compiled_call_impl is not None
