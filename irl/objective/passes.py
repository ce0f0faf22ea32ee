"""How a model runs over the views of a batch: stacked in one pass, or one pass a view with the same draws."""

from __future__ import annotations

import contextlib
import functools
import random
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from irl.core.output import SEPARATE, Output, call, sample_counts, stack_views, tensors_of
from irl.objective.view_check import check_views


def run_views(model: Callable[..., Output], views: Sequence[Any], passes: str, batch_norm: str) -> list[Output]:
    """The output of each view. passes and batch_norm are those of `IRLLoss`."""
    if passes == "separate" and len(views) > 1:
        draws = DrawState()
        outputs = []
        for view in views:
            draws.restore()
            outputs.append(_checked(call(model, view)))
        return outputs
    stacked = stack_views(views)
    rows = sample_counts(views[0]) - {0}
    if len(views) > 1 and not rows:
        raise ValueError("the batch is empty: the views have no samples")
    if passes == "stacked" and len(views) > 1:
        check_views(model, views, DrawState)
    with split_batch_norm(model, len(views)) if batch_norm == "split" else contextlib.nullcontext():
        output = _checked(_call_stacked(model, stacked, len(views)))
    return output.views(len(views), rows)


def _call_stacked(model: Callable[..., Output], stacked: Any, count: int) -> Any:
    if count == 1 or torch.compiler.is_compiling():
        return call(model, stacked)
    try:
        return call(model, stacked)
    except (RuntimeError, IndexError, TypeError) as error:
        if "enforce_sorted" in str(error):
            raise RuntimeError(
                "the model packs sequences that must be sorted by length (enforce_sorted), which stacked views are "
                f"not: build it with enforce_sorted=False, or use {SEPARATE}"
            ) from error
        error.add_note(f"The model ran on {count} stacked views. If it takes one view at a time, use {SEPARATE}.")
        raise


def _checked(output: Any) -> Output:
    if not isinstance(output, Output):
        raise ValueError(
            f"the model returned {type(output).__name__}, not irl.Output; wrap it: tap(model, ['layer', ...])"
        )
    return output


def no_gradient_of(outputs: Sequence[Output]) -> Tensor:
    """0, with a gradient of 0 to everything that the outputs were computed from."""
    zeros = [x.flatten()[:0].sum().float() for x in tensors_of(list(outputs)) if x.requires_grad]
    return torch.stack(zeros).sum() if zeros else torch.zeros(())


class DrawState:
    """The state of all generators that models draw from: torch's, of the CPU and of GPUs, numpy's and Python's."""

    def __init__(self) -> None:
        self.cpu, self.numpy, self.python = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self.gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        np.random.set_state(self.numpy)
        random.setstate(self.python)
        if self.gpus:
            torch.cuda.set_rng_state_all(self.gpus)


@contextlib.contextmanager
def split_batch_norm(model: Any, count: int) -> Iterator[None]:
    """Batch norm in training mode takes its statistics of each of `count` stacked views alone, in their order, as in
    one pass a view."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    layers = [m for m in modules if isinstance(m, _BatchNorm) and m.training] if count > 1 else []
    for layer in layers:
        by_view = functools.partial(_by_view, layer.forward, count, torch.is_grad_enabled())
        layer.forward = by_view  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _by_view(forward: Callable[[Tensor], Tensor], count: int, grad: bool, x: Tensor) -> Tensor:
    # What is computed again in the backward pass would not be split: refuse activation checkpointing.
    if not torch.compiler.is_compiling() and grad:
        if not torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(False) is not None:
            raise ValueError(f"batch_norm='split' does not work in checkpointed layers; use {SEPARATE}")
    return torch.cat([forward(part) for part in x.chunk(count)])
