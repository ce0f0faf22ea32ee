"""Views misaligned? Before the first pass over stacked views of a foreign model, two passes without gradients tell."""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from typing import Any, Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.utils._python_dispatch import TorchDispatchMode

from irl.core.output import SEPARATE, Output, call, sample_counts, stack_views, tensors_of
from irl.models.tap import TappedModel

# The modes, training or not, in which a model was looked at.
_CHECKED: weakref.WeakKeyDictionary[nn.Module, set[bool]] = weakref.WeakKeyDictionary()


def check_views(model: Any, views: Sequence[Any], draws: Callable[[], Any]) -> None:
    """Raises ValueError for a tapped model that does not treat the rows of stacked views alike and alone.

    Two copies of the clean view have to come out equal, and the clean view the same beside itself and beside the noisy
    one. Dropout and stochastic depth are off and batch norm is in eval mode, so what is left are models that sort or
    shuffle their samples, whose batch is not dimension 0, or that draw masks of their own. The model's attributes,
    buffers and the state of all generators (`draws` reads it) are put back. Each model is checked once in training and
    once in eval mode. Sharded (FSDP) models, lazy ones, and steps that are compiled as a whole are not checked.
    """
    if torch.compiler.is_compiling() or not isinstance(model, nn.Module):
        return
    checked = _CHECKED.setdefault(model, set())
    if model.training in checked:
        return
    checked.add(model.training)
    modules = list(model.modules())
    tapped = next((m for m in modules if isinstance(m, TappedModel)), None)
    if tapped is None or any(isinstance(m, LazyModuleMixin) or "FSDP" in _names_of(m) for m in modules):
        return
    # Importing the compiler takes seconds: only where somebody has.
    eager: Any = contextlib.nullcontext
    if "torch._dynamo" in sys.modules:
        eager = functools.partial(torch.compiler.set_stance, "force_eager")
    try:
        with _undisturbed(list(tapped.modules()), draws()) as restart, eager():
            with torch.no_grad(), _NoDropout() as mode:
                alike = _first_two(tapped, views[0], views[0])
                restart()
                beside = _first_two(tapped, views[0], views[1])
    except Exception:  # The pass that follows raises it, if it is not the check's own.
        return
    finally:
        torch.clear_autocast_cache()  # It holds weights that were cast without gradients.
    far = [_relative(a, b) for a, b in alike]
    if any(distance > bound for distance, bound in far):
        raise ValueError(
            "two equal views came out different (relative distance "
            f"{max(distance for distance, _ in far):.2g}): the model sorts or shuffles its samples, draws masks of its "
            f"own, or its batch is not dimension 0. {SEPARATE} runs one pass a view with the same draws; "
            "IRLLoss(passes='unchecked') stacks the views all the same"
        )
    far = [_relative(a, b) for (a, _), (b, _) in zip(alike, beside)]
    if not mode.batch_statistics and any(distance > bound for distance, bound in far):
        raise ValueError(
            "the clean view came out different beside the noisy view (relative distance "
            f"{max(distance for distance, _ in far):.2g}): the model mixes samples, or its batch is not dimension 0. "
            f"{SEPARATE} runs one pass a view; IRLLoss(passes='unchecked') stacks the views all the same"
        )


def _names_of(module: nn.Module) -> str:
    return type(module).__name__.replace("FullyShardedDataParallel", "FSDP")


def _first_two(model: TappedModel, first: Any, second: Any) -> list[tuple[Tensor, Tensor]]:
    """Every floating tensor that the model returns, of both views."""
    output: Output = call(model, stack_views([first, second]))
    views = output.views(2, sample_counts(first))
    return list(zip(*([x for x in tensors_of(view) if x.is_floating_point()] for view in views)))


def _relative(a: Tensor, b: Tensor) -> tuple[float, float]:
    """|a - b| / |a|, and what rounding may bring it to. Padding may hold anything that is not finite."""
    bound = 0.01 if a.dtype in (torch.float32, torch.float64) else 0.05
    if a.shape != b.shape:
        return 1.0, bound
    a, b = (x.double().nan_to_num(0.0, 0.0, 0.0) for x in (a, b))
    scale = float(torch.maximum(a.norm(), b.norm()))
    return (float((a - b).norm()) / scale if scale else 0.0), bound


@contextlib.contextmanager
def _undisturbed(modules: Sequence[nn.Module], draws: Any) -> Iterator[Callable[[], None]]:
    """What a pass may change is put back at the end, and whenever the function that this yields is called."""
    attributes = [(m, dict(m.__dict__), dict(m._buffers)) for m in modules]
    values = [(b, b.clone()) for m in modules for b in m._buffers.values() if b is not None]

    def back() -> None:
        for module, known, buffers in attributes:
            module.__dict__.clear()
            module.__dict__.update(known)
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        draws.restore()

    def restart() -> None:
        back()
        for module in modules:
            if isinstance(module, _BatchNorm):
                module.training = False
            elif isinstance(module, nn.RNNBase):
                module.__dict__["dropout"] = 0.0

    restart()
    try:
        yield restart
    finally:
        back()


class _NoDropout(TorchDispatchMode):
    """Keeps everything that dropout and stochastic depth would drop. batch_statistics: whether samples were normalised
    together all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_statistics = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.split("::")[-1]
        arguments = {a.name: i for i, a in enumerate(func._schema.arguments)}
        if name == "bernoulli_":
            return args[0].fill_(1)
        if name == "bernoulli":
            return torch.ones_like(args[0])
        if name == "native_dropout":
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        if "dropout_p" in arguments:
            at = arguments["dropout_p"]
            args = tuple(0.0 if i == at else x for i, x in enumerate(args))
            kwargs.update({"dropout_p": 0.0} if at >= len(args) else {})
        if "batch_norm" in name and "backward" not in name and "training" in arguments:
            at = arguments["training"]
            self.batch_statistics |= bool(args[at] if at < len(args) else kwargs.get("training"))
        found = func(*args, **kwargs)
        if name == "rand" and all(n == 1 for n in found.shape[1:]) and found.dim() > 1:
            return found[:1].expand_as(found).clone()  # One number a sample: stochastic depth.
        return found
