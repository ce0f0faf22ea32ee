"""Jacobian norms of the layers of a wide residual network, |J_l|_F^2 of each image, estimated in three ways.

"by hand" is WideResNet.push_forward, values and tangents stacked in one batch; "dual tensors" is forward mode on a
tapped model; "reverse" is a projection for each layer, the forward pass shared (Hoffman et al. 2019). One draw of one
way says more than one of another, so they are compared at equal standard error: for each layer the reverse way is
charged as many draws, also fractions of one, as give the variance of one forward draw.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, Callable, Sequence

import numpy as np
import torch
from harness import Report, alternate, arguments, median_interval, parse
from torch import Tensor

from irl import tap
from irl.core.logging import progress
from irl.models.wide_resnet import WideResNet, WideResNetConfig
from irl.objective.smoothness import lambda_r


@torch.no_grad()
def estimate(model: Callable, x: Tensor, method: str, layers: Sequence[str]) -> list[Tensor]:
    return list(lambda_r(model, x, method=method, layers=layers).values())


def compare(report: Report, model: WideResNet, x: Tensor, layers: list[str], args: argparse.Namespace) -> None:
    report.say(f"{len(layers)} layers: {', '.join(layers)}.")
    # The same layers as submodules.
    modules = [name if name == "conv" else f"blocks.{name.replace('.', '_', 1)}" for name in layers]
    tapped = tap(model, modules)
    steps: dict[str, Callable[[], Any]] = {
        "plain forward": lambda: model(x),
        "by hand": lambda: estimate(model, x, "forward", layers),
        "dual tensors": lambda: estimate(tapped, x, "forward", modules),
        "reverse": lambda: estimate(tapped, x, "reverse", modules),
        **{name: partial(estimate, tapped, x, "reverse", [name]) for name in modules},
    }
    with torch.no_grad():
        seconds = alternate(steps, args.rounds, label="passes")
    # Of one draw for one image, relative to the square of its mean; averaged over images.
    variance = {}
    for method, network, names in (("forward", model, layers), ("reverse", tapped, modules)):
        draws = [estimate(network, x, method, names) for _ in progress(range(args.draws), f"variance, {method}")]
        each = [torch.stack(own).double() for own in zip(*draws)]
        variance[method] = [float((own.var(0) / own.mean(0).square()).mean()) for own in each]
    report.table({name: values for name, values in seconds.items() if name not in modules}, "by hand")
    needed = [reverse / forward for reverse, forward in zip(variance["reverse"], variance["forward"])]
    errors = [np.sqrt(value / len(x)) for value in variance["forward"]]
    report.say(
        f"Relative standard error of one forward draw, mean over the batch: {errors[0]:.2%} at {layers[0]} to "
        f"{errors[-1]:.2%} at {layers[-1]}. Reverse draws for the same error: {min(needed):.2f} to {max(needed):.2f}."
    )
    # What the layers share is the forward pass with its graph; the rest is each projection's own.
    shared = (sum(seconds[name] for name in modules) - seconds["reverse"]) / (len(modules) - 1)
    charged = shared + sum((seconds[name] - shared) * n for name, n in zip(modules, needed))
    for way in ("by hand", "dual tensors"):
        report.say(
            f"Time of reverse / time of {way}, at equal standard error of every layer: "
            f"{median_interval(charged / seconds[way])}."
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--draws", type=int, default=60, help="from which variances are estimated")
    args = parse(parser)
    torch.manual_seed(0)
    model = WideResNet(10, WideResNetConfig(args.depth, args.width))
    x = torch.randn(args.batch_size, 3, 32, 32)
    with torch.no_grad():
        model.train()(x)  # running statistics of some data
    model.eval()
    report = Report(f"Jacobian norms of WRN-{args.depth}-{args.width}", args)
    report.say(f"{args.batch_size} images of 32 x 32, one draw each.")
    compare(report, model, x, ["conv", *(f"{name}{part}" for name in model.names for part in (".conv1", ""))], args)
    compare(report, model, x, model.names, args)
    report.close()


if __name__ == "__main__":
    main()
