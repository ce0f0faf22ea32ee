"""A teacher whose weights are an exponential moving average of a model's (Mean Teacher, Tarvainen and Valpola 2017)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from irl.core.output import Output, call


class EMA(nn.Module):
    """Averages the weights of `model`; called on a clean view, it returns the targets of its noisy copies:

    teacher = EMA(model, decay=0.999)
    terms = irl_loss(model, clean, [noisy], task_loss, targets=teacher(clean))
    ...optimizer.step(); teacher.update(model)

    decay: w <- decay * w + (1 - decay) * model's w in each update; buffers, such as running statistics, are copied. The
    teacher runs in eval mode, without dropout and without gradients. Raises ValueError for a decay outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and less than 1, got {decay}")
        self.decay = decay
        self.register_buffer("followed", torch.tensor(-1))
        self.model: Any = copy.deepcopy(model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EMA:
        """The teacher stays in eval mode."""
        self.training = mode
        return self

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float | None = None) -> None:
        """One step of the average; decay 0 copies the model."""
        decay = self.decay if decay is None else decay
        for weight, new in zip(self.model.parameters(), model.parameters(), strict=True):
            weight.lerp_(new.to(weight), 1 - decay)
        for buffer, value in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(value)

    followed: Tensor

    def follow(self, model: nn.Module, step: int) -> None:
        """`update` once for each step, however often it is called: the first time, at step 0, it becomes the model."""
        if int(self.followed) != step:
            self.update(model, 0.0 if step == 0 else None)
            self.followed.fill_(step)

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Output:
        """The model's output, as `model(x)`, or of one view as `IRLLoss` takes it: a tensor, a tuple or a dict."""
        if len(inputs) == 1 and not named and not isinstance(inputs[0], Tensor):
            return call(self.model, inputs[0])
        return self.model(*inputs, **named)
