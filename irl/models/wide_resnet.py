"""Wide residual networks (Zagoruyko and Komodakis 2016) of pre-activation blocks for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irl.core.output import Output
from irl.core.types import BelowOne, Checked, Count, Rule

GROUPS = (16, 32, 64)


DEPTH = Rule("of the form 6n + 4, n >= 1", lambda depth: depth >= 10 and (depth - 4) % 6 == 0)


STRIDE = 4  # of the last blocks: two groups halve each side


@dataclass(frozen=True)
class WideResNetConfig(Checked):
    """WRN-depth-width: depth 6n + 4 gives n blocks in each of three groups of 16, 32, 64 times `width` channels.

    dropout: between the two convolutions of a block.
    """

    depth: Annotated[int, DEPTH] = 28
    width: Count = 10
    dropout: BelowOne = 0.0

    def layer_names(self) -> list[str]:
        """Names of the hidden states in forward order."""
        blocks = (self.depth - 4) // 6
        return [f"group{group}.block{block}" for group in (1, 2, 3) for block in range(blocks)]


class Block(nn.Module):
    """BN-ReLU-conv-BN-ReLU-(dropout)-conv beside a shortcut, which is a 1x1 convolution where the shape changes; that
    one, as in the authors' code, takes the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H / stride, W / stride)"""
        activated = F.relu(self.norm1(x), inplace=True)
        h = F.relu(self.norm2(self.conv1(activated)), inplace=True)
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        return self.conv2(h) + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """Logits of normalised images; hidden states are the outputs of all blocks, `group1.block0` and so on."""

    def __init__(self, classes: int, config: WideResNetConfig = WideResNetConfig()) -> None:
        super().__init__()
        widths = [config.width * channels for channels in GROUPS]
        self.conv = nn.Conv2d(3, GROUPS[0], 3, 1, 1, bias=False)
        self.blocks = nn.ModuleDict()
        inputs = GROUPS[0]
        for name in config.layer_names():
            outputs = widths[int(name[5]) - 1]
            stride = 2 if name.endswith("block0") and not name.startswith("group1") else 1
            # The names of submodules hold no dots.
            self.blocks[name.replace(".", "_")] = Block(inputs, outputs, stride, config.dropout)
            inputs = outputs
        self.names = config.layer_names()
        self.norm = nn.BatchNorm2d(inputs)
        self.linear = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # "MSR": He et al. 2015, by the number of outputs, as in the authors' code.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Output:
        """x: images (N, 3, H, W) -> logits (N, classes)."""
        h = self.conv(x)
        hidden = {}
        for name, block in zip(self.names, self.blocks.values()):
            h = hidden[name] = block(h)
        h = F.relu(self.norm(h), inplace=True).mean((2, 3))
        return Output(self.linear(h), hidden)

    def push_forward(self, x: Tensor, tangents: Tensor) -> tuple[Output, Output]:
        """The output for images (N, 3, H, W), and its derivatives along tangents (M, N, 3, H, W): logits
        (M, N, classes) and hidden states (M, N, ...). Value and tangents go through each convolution as one batch.
        Of the convolutions between hidden states there are extra outputs, `conv` and `group1.block0.conv1`.

        Raises ValueError in training mode, where batch norm makes an image's output depend on the others, and there
        would be dropout.
        """
        if self.training:
            raise ValueError("derivatives of one image's output need eval mode")
        views = 1 + len(tangents)
        h = self.conv(torch.cat([x[None], tangents]).flatten(0, 1))
        hidden, inner = {}, {"conv": h}
        for name, block in zip(self.names, self.blocks.values()):
            assert isinstance(block, Block)
            active = _rectify(h, block.norm1, views)
            inner[f"{name}.conv1"] = block.conv1(active)
            added = block.conv2(_rectify(inner[f"{name}.conv1"], block.norm2, views))
            h = hidden[name] = added + (h if block.shortcut is None else block.shortcut(active))
        pooled = _rectify(h, self.norm, views).mean((2, 3)).unflatten(0, (views, -1))
        logits = pooled @ self.linear.weight.T
        hidden, inner = ({n: h.unflatten(0, (views, -1)) for n, h in named.items()} for named in (hidden, inner))
        first, rest = (
            [{n: h[part] for n, h in named.items()} for named in (hidden, inner)] for part in (0, slice(1, None))
        )
        value = Output(logits[0] + self.linear.bias, first[0], extra=first[1])
        return value, Output(logits[1:], rest[0], extra=rest[1])


def _rectify(h: Tensor, norm: nn.BatchNorm2d, views: int) -> Tensor:
    """Batch norm by running statistics and ReLU of values, which come first, and what these do to tangents."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    # The product is new and may be changed in place: no copies to put values and tangents together again.
    y = (h * scale[:, None, None]).unflatten(0, (views, -1))
    y[0].add_(shift[:, None, None])
    return y.mul_(y[0] > 0).flatten(0, 1)


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_adds(config: WideResNetConfig, size: int = 32, classes: int = 10) -> int:
    """Multiplications with addition of one forward pass over one image (3, size, size), by hooks on its layers."""
    model, total = WideResNet(classes, config), 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        each = module.weight[0].numel()
        total += each * output.numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    return total
