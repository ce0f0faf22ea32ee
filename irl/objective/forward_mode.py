"""LSTMs with the derivatives that smoothness needs. The fused LSTMs of oneDNN and cuDNN have no forward mode, nor has
the fused cell that torch falls back to on a GPU; cuDNN's has no second derivative and, in eval mode, no first. On a GPU
LSTMs are therefore made of plain operations here: slower, with the same values up to rounding.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def forward_mode_kernels(model: Any) -> Iterator[None]:
    """Of a model with LSTMs; convolutions keep their fast kernels."""
    with contextlib.ExitStack() as stack:
        if _has(model, nn.RNNBase):
            # torch warns of any setting of TF32, which only GPUs of Intel have.
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False, allow_tf32=None))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(twice_differentiable_kernels(model))
        yield


@contextlib.contextmanager
def twice_differentiable_kernels(model: Any) -> Iterator[None]:
    """The same for backward passes, which on a CPU every kernel has."""
    with _PlainLSTM() if _has(model, nn.RNNBase, nn.RNNCellBase) else contextlib.nullcontext():
        yield


def _has(model: Any, *kinds: type) -> bool:
    return isinstance(model, nn.Module) and any(isinstance(module, kinds) for module in model.modules())


class _PlainLSTM(TorchFunctionMode):
    """Packed sequences are left to torch, which then says what it lacks."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.lstm and _on_gpu(args[0]) and isinstance(args[1], (tuple, list)):
            return lstm(*args)
        if func == torch.lstm_cell and _on_gpu(args[0]):
            return lstm_cell(*args)
        return func(*args, **(kwargs or {}))


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def lstm(
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """torch.lstm: x (T, N, D), or (N, T, D) with batch_first, and its two initial states (layers * ways, N, H) ->
    outputs and final states. weights: for each layer and way input, state, their biases, and projection, as there are.
    """
    ways = 2 if bidirectional else 1
    each = len(weights) // (layers * ways)
    x = x.transpose(0, 1) if batch_first else x
    finals: list[tuple[Tensor, Tensor]] = []
    for layer in range(layers):
        outputs = []
        for way in range(ways):
            own = weights[len(finals) * each : (len(finals) + 1) * each]
            gates = F.linear(x, own[0], own[2] + own[3] if biases else None)
            h, c = (part[len(finals)] for part in state)
            steps: list[Tensor] = []
            for t in reversed(range(len(x))) if way else range(len(x)):
                h, c = _cell(gates[t] + F.linear(h, own[1]), c)
                # An odd number of weights: the last is the projection's.
                h = F.linear(h, own[-1]) if each % 2 else h
                steps.append(h)
            outputs.append(torch.stack(steps[::-1] if way else steps))
            finals.append((h, c))
        x = torch.cat(outputs, -1)
        x = F.dropout(x, dropout, training) if dropout and layer + 1 < layers else x
    h, c = (torch.stack(parts) for parts in zip(*finals))
    return x.transpose(0, 1) if batch_first else x, h, c


def lstm_cell(
    x: Tensor,
    state: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """torch.lstm_cell"""
    return _cell(F.linear(x, w_ih, b_ih) + F.linear(state[0], w_hh, b_hh), state[1])


def _cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Gates (N, 4 H) in the order input, forget, cell, output, and cell states (N, H) -> the next h and c."""
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
