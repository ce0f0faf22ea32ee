"""Hidden states of any nn.Module, by forward hooks, as the Output that the objective reads (law 3)."""

from __future__ import annotations

import contextlib
import copy as copying
import inspect
import itertools
import weakref
from typing import Any, Callable, Literal, Mapping, Sequence, TypeVar, get_args

import torch
from torch import Tensor, nn

from irl.core.output import Output
from irl.models.hooks import Calls, Kept, Pick, Recorder, locate, pick
from irl.models.lens import is_channels_first, lens_of_layers

T = TypeVar("T")
INNER = "model."
Lens = Tensor | Mapping[str, Tensor]
Missing = Literal["error", "skip"]


class TappedModel(nn.Module):
    """A model whose forward returns Output; see `tap`. The model itself is `.model`, unchanged but for its hooks, which
    go with this wrapper. Attributes and methods that the wrapper lacks are the model's: `.config`, `.generate`, ..."""

    def __init__(self, model: nn.Module, layers: Sequence[str], **settings: Any) -> None:
        super().__init__()
        self.model, self.training = model, model.training
        self._settings = {"layers": layers, **settings}
        self._recorder = _recorder(model, **self._settings)
        # Not bound to this wrapper, so that it can be freed, and its hooks with it.
        self._remove = weakref.finalize(self, self._recorder.detach)
        self._remove.atexit = False
        self._names = _positional(model)
        self._measured = False
        self.register_state_dict_post_hook(_own_names)
        self.register_load_state_dict_pre_hook(_wrapped_names)
        if self._is_compiled():
            torch.compiler.reset()  # What was compiled without the hooks is compiled again.

    def _is_compiled(self) -> bool:
        """Whether a compiler works within the model. Raises ValueError where a layer was replaced since the tap."""
        return any([locate(self.model, name, module) for name, module in self._recorder.modules.items()])

    def forward(self, *args: Any, **kwargs: Any) -> Output:
        recorder, guards = self._recorder, contextlib.nullcontext()
        if not torch.compiler.is_compiling():
            if not self._remove.alive:
                raise ValueError("this tap was removed; tap the model again")
            if self._is_compiled():
                # Blocks share compiled code, that of some without hooks, unless hooks are guarded.
                guards = torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)
        kept = recorder.start((*args, *kwargs.values()))
        try:
            with guards:
                logits = self.model(*args, **kwargs)
        finally:
            recorder.stop()
        hidden = self._hidden(kept)
        return Output(logits, hidden, self._lens(args, kwargs, logits, hidden))

    def _hidden(self, kept: list[Kept]) -> dict[str, Tensor]:
        for name, value, version in kept:
            # A view shares its base's counter, so that moved dimensions do not hide an overwrite.
            if version is not None and value._version != version:
                raise ValueError(
                    f"the output of layer {name!r} was overwritten in place after it was returned (an in-place "
                    "activation?); tap the module that overwrites it, build the model with inplace=False, or compare "
                    "what it was before: tap(..., copy=True)"
                )
        hidden: dict[str, Any] = {}
        calls: dict[str, list[Tensor]] = {}
        for name, value, _ in kept:
            calls.setdefault(name, []).append(value)
            if self._recorder.calls == "all":
                hidden[f"{name}[{len(calls[name]) - 1}]"] = value
            else:
                hidden.pop(name, None)
                hidden[name] = value
        if self._recorder.calls == "stack":
            hidden = {name: torch.stack(calls[name], 1) for name in hidden}
        for name in self._recorder.layers:
            if name not in calls:
                if self._settings["missing"] == "error":
                    if not torch.compiler.is_compiling() and self._is_compiled():
                        raise ValueError(
                            f"layer {name!r} was not called in this forward pass: it was compiled after it was tapped; "
                            "tap the model again, or compile the tapped model: torch.compile(tap(model, ...))"
                        )
                    raise ValueError(
                        f"layer {name!r} was not called in this forward pass; tap a module that is, or, if some passes "
                        "skip it (layer drop), leave it out of these: tap(..., missing='skip'), in a Trainer "
                        "tap_settings={'missing': 'skip'}"
                    )
                hidden[name] = None
        return hidden

    def _lens(self, args: Any, kwargs: Any, logits: Any, hidden: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        lens, lens_fn = self._settings["lens"], self._settings["lens_fn"]
        if lens is None and lens_fn is None:
            return {}
        if lens is None:
            found = pick(lens_fn, logits)
        else:
            inputs = {**dict(enumerate(args)), **dict(zip(self._names, args)), **kwargs}
            if not callable(lens) and lens not in inputs:
                raise ValueError(f"lens names no input {lens!r} of this pass, which has {', '.join(map(str, inputs))}")
            found = lens(inputs, logits) if callable(lens) else inputs[lens]
        layers = self._recorder.layers
        channels_first = [n for n, m in self._recorder.modules.items() if layers[n][2] is None and is_channels_first(m)]
        on_gpu = any(isinstance(x, Tensor) and not x.is_cpu for x in (logits, *hidden.values()))
        measure = not torch.compiler.is_compiling() and not (on_gpu and self._measured)
        result = lens_of_layers(
            found, hidden, logits, channels_first, list(dict.fromkeys([*layers, *hidden, "logits"])), measure
        )
        if measure:
            self._measured = True
        return result

    def remove(self) -> nn.Module:
        """Take the hooks away; the model, which is returned, is as it was. `with tap(...) as tapped:` does so at its
        end, and so does the end of the wrapper's life."""
        self._remove()
        return self.model

    def __enter__(self) -> TappedModel:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model" or name.startswith("_"):
                raise
            return getattr(super().__getattr__("model"), name)

    def __deepcopy__(self, memo: dict[int, Any]) -> TappedModel:
        memo[id(self)] = new = _restore(copying.deepcopy(self.model, memo), self._settings, self.training)
        return new

    def __reduce__(self) -> Any:
        return _restore, (self.model, self._settings, self.training)


def _restore(model: nn.Module, settings: dict[str, Any], training: bool) -> TappedModel:
    new = TappedModel(model, **settings)
    new.training = training
    return new


def _positional(model: nn.Module) -> list[str]:
    """The names of a model's inputs; none where they cannot be known."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _own_names(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """A state dict has the model's own names, so that whoever saves it, such as a Trainer, saves the model's."""
    if "_fsdp_wrapped_module" in prefix:
        return  # FSDP looks for its parameters by their places
    # All at once: one name may be another's with `model.` before it.
    own = {name: state.pop(name) for name in [*state] if name.startswith(prefix + INNER)}
    state |= {prefix + name[len(prefix + INNER) :]: value for name, value in own.items()}


def _wrapped_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Accepts the model's own names, or names with `model.` before them: those that match more of the keys."""
    tensors = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    known = {name for name, _ in itertools.chain(*tensors)}
    names = [name[len(prefix) :] for name in state if name.startswith(prefix)]
    if sum(INNER + name in known for name in names) >= sum(name in known for name in names):
        state |= {prefix + INNER + name: state.pop(prefix + name) for name in names}


def _recorder(
    model: nn.Module,
    layers: Sequence[str],
    select: Any,
    batch_dim: Any,
    time_dim: Any,
    calls: Calls,
    missing: Missing,
    copy: bool,
    **_: Any,
) -> Recorder:
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers must be a sequence of at least one module name, got {layers!r}")
    for name, value, allowed in (("calls", calls, get_args(Calls)), ("missing", missing, get_args(Missing))):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    # A module may have several names; each of them is good.
    modules = dict(model.named_modules(remove_duplicate=False))
    by_name = [x for x in (select, batch_dim, time_dim) if isinstance(x, Mapping)]
    for name in [*layers, *(key for mapping in by_name for key in mapping)]:
        if name not in modules or not name:
            known = ", ".join(n for n in modules if n)
            raise ValueError(f"unknown layer {name!r} of {type(model).__name__}, known are {known}")
        if list(layers).count(name) > 1:
            raise ValueError(f"layer {name!r} is named twice; name it once")

    def of(setting: Any, name: str) -> Any:
        return setting.get(name) if isinstance(setting, Mapping) else setting

    chosen = {name: (of(select, name), of(batch_dim, name), of(time_dim, name)) for name in layers}
    return Recorder({name: modules[name] for name in layers}, chosen, calls, copy)


def tap(
    model: nn.Module,
    layers: Sequence[str],
    select: Pick | Mapping[str, Pick] | None = None,
    batch_dim: int | Mapping[str, int] | None = None,
    lens_fn: Callable[[Any], Lens] | int | str | None = None,
    *,
    lens: Callable[[Mapping[str | int, Any], Any], Lens] | str | int | None = None,
    time_dim: int | Mapping[str, int] | None = None,
    calls: Calls = "once",
    missing: Missing = "error",
    copy: bool = False,
) -> TappedModel:
    """Wrap a model so that it returns Output(logits, hidden, lens): logits is what the model returned, unchanged.

    layers: names as in model.named_modules(); hidden holds their outputs in the order in which they were called.
    select: for modules that return tuples or objects, an index, a name, several of them one after another, or a
        function that picks the tensor; one for all layers or one by name.
    batch_dim: the batch dimension of the layers' outputs, moved to the front (default 0); one for all or by name.
    lens: lens(inputs, output) -> int64 lengths (rows,), in frames of the tapped sequences (N, T, ...), one for all
        sequences or by layer. inputs: the model's, by name and by position, as inputs["lens"] or inputs[1]; or just the
        name or position of the input that holds them. Without it nothing is padding. On a GPU the numbers are checked
        in the first pass alone.
    lens_fn: the same as a function, index or name of what the model returned.
    time_dim: the dimension of time in the layers' outputs, moved behind the batch (default 1): 2 for (N, C, T).
    calls: of layers that are called several times in a pass: "all" keeps each call as a layer of its own, "name[0]",
        "name[1]", ...; "last" the last; "stack" makes one layer (N, calls, ...) of them, as of the steps of a cell.
    missing: "skip" leaves a layer out of the passes that do not call it (layer drop): its hidden state is then None.
    copy: keep a copy of each output, for layers that are overwritten in place later.

    Batch norm in training mode takes its statistics over all stacked views together; IRLLoss(batch_norm="split") takes
    them view by view. The state dict has the model's own names. Files and spawned processes need select and lens that
    can be pickled: indices, names, functions of a module. Tapping a tapped model again replaces its layers.

    Raises ValueError, with the remedy, for unknown layers, for outputs that are no tensors, for modules that are called
    twice or not at all in a forward pass, for outputs overwritten in place, and for lengths that are none. DDP and
    torch.compile wrap the tapped model: DDP(tap(model, ...)). Where a compiler is at work, outputs are always copied.
    """
    if isinstance(model, TappedModel):
        model = model.remove()
    return TappedModel(
        model,
        layers,
        select=select,
        batch_dim=batch_dim,
        time_dim=time_dim,
        lens=lens,
        lens_fn=lens_fn,
        calls=calls,
        missing=missing,
        copy=copy,
    )
