"""A training step of the wide residual network: objectives beside each other, and beside a bare PyTorch loop.

"irl_batching" and the others are whole updates of `irl train`: crops, flips, noise, one forward pass over all views,
loss, backward pass, SGD. "a pass for each view" runs the model K + 1 times instead. "bare loop" is the baseline's
model and batch in a loop of a few lines, without data. On a GPU also what share of a bfloat16 matrix product's speed is
reached.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from harness import Report, alternate, arguments, median_interval, parse, peaks
from irl_step import resident
from torch.nn import functional as F

from irl.core import config
from irl.data.images import Images, write
from irl.models.wide_resnet import WideResNetConfig, count_parameters, multiply_adds
from irl.training.config import SmoothnessConfig
from irl.training.task import BatchSpec
from irl.training.trainer import Trainer
from irl.vision import modality
from irl.vision.config import VisionConfig

COUNT = 2048
LAST = {"gamma": 1.0, "from_layer": "group3.block0", "distance": {"l2_mean": 0.1, "cosine": 1.0}}
PRESETS: dict[str, dict[str, Any]] = {
    "baseline": {"alpha": 1.0, "beta": 0.0},
    "irl_batching": {"alpha": 0.5, "beta": 0.5},
    "irl_loss": {"alpha": 0.5, "beta": 0.5, **LAST},
}
SEPARATE = "irl_loss, a pass for each view"


def settings_of(args: argparse.Namespace, name: str, folder: Path) -> VisionConfig:
    paths = {f"{part}_set": str(folder / f"{part}.npz") for part in ("train", "dev")}
    made: VisionConfig = config.from_dict(
        VisionConfig,
        {
            **paths,
            "statistics": str(folder / "statistics.json"),
            "compile": getattr(args, "compile", False),
            "model": {"depth": args.depth, "width": args.width},
            "objective": {**PRESETS[name], "copies": args.copies},
            "train": {
                "batch_size": args.batch_size, "optimizer": "nesterov", "learning_rate": 0.01, "clip_norm": 0.0,
                "updates": 10**6, "precision": args.precision, "accelerator": "gpu" if args.device == "cuda" else "cpu",
                "threads": args.threads, "cuda_graphs": getattr(args, "cuda_graphs", False),
            },
        },
        "benchmark",
    )  # fmt: skip
    return made


def prepare(folder: Path, args: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", COUNT), ("dev", 10)):
        pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        write(folder / f"{name}.npz", Images(pixels, np.arange(count) % 10, np.arange(count), list("0123456789")))
    modality.prepare(settings_of(args, "baseline", folder), [])


def make_step(
    args: argparse.Namespace, name: str, folder: Path, smoothness: SmoothnessConfig = SmoothnessConfig()
) -> Callable[[], None]:
    """One update, data included."""
    settings = replace(settings_of(args, name.partition(",")[0], folder), smoothness=smoothness)
    trainer = Trainer(settings, folder / "exp")
    trainer.module.train()
    module = trainer.raw_module
    objective = module.objectives["paired"]
    spec = BatchSpec(0, True, args.copies if objective.needs_noisy else 0)

    def step() -> None:
        batch = next(iter(trainer.task.loader(trainer.state.step, [spec], 0)))
        trainer.update([batch])
        done()

    def passes() -> None:
        batch = next(iter(trainer.task.loader(trainer.state.step, [spec], 0)))
        with trainer.fabric.autocast():
            views = [module.model(x) for x in (batch.clean, *batch.noisy)]
            terms = objective.terms(views, lambda view: F.cross_entropy(view.logits, batch.y), trainer.state.step)
        terms.total.backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        trainer.state.step += 1
        done()

    done = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    return passes if name == SEPARATE else step


def bare_step(args: argparse.Namespace, folder: Path) -> Callable[[], None]:
    trainer = Trainer(settings_of(args, "baseline", folder), folder / "exp")
    model = trainer.raw_module.model.train()
    batch = next(iter(trainer.task.loader(0, [BatchSpec(0, True, 0)], 0)))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    half = args.precision == "bf16-mixed"

    def step() -> None:
        with torch.autocast(args.device, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(batch.clean).logits, batch.y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


def peak(args: argparse.Namespace, name: str, folder: Path) -> float:
    """Most memory during three steps less that before them, in MiB; on a CPU in a process of its own."""
    if args.device == "cuda":
        step = make_step(args, name, folder)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    step = make_step(args, name, folder)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    for _ in range(3):
        step()
    return resident("VmHWM") - before


def product_speed(device: str, size: int = 8192) -> float:
    """Floating-point operations a second of a bfloat16 matrix product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)

    def multiply() -> None:
        torch.mm(a, a)
        torch.cuda.synchronize()

    seconds = np.median(alternate({"product": multiply}, 20, label="product")["product"])
    return float(2 * size**3 / seconds)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--images", type=int, default=45000, help="in an epoch, for its seconds")
    args = parse(parser)
    model = WideResNetConfig(args.depth, args.width)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    report = Report(
        f"Training step of WRN-{args.depth}-{args.width}, {args.copies} noisy, {where}, {args.precision}", args
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args)
        steps = {row: make_step(args, row, folder) for row in [*PRESETS, SEPARATE]}
        steps["bare loop"] = bare_step(args, folder)
        parameters = count_parameters(make_model(model))
        report.say(
            f"{parameters / 1e6:.2f} M parameters, batches of {args.batch_size}; the distance on the last group."
        )
        seconds = alternate(steps, args.rounds, label="steps")
        report.table(seconds, "irl_batching", args.batch_size, "images/s")
        overhead = median_interval(seconds["baseline"] / seconds["bare loop"])
        report.say(
            f"Time of a whole update of the baseline, data included, divided by one of the bare loop: {overhead}."
        )
        epochs = {row: args.images / args.batch_size * float(np.median(seconds[row])) for row in PRESETS}
        text = ", ".join(f"{row} {value:.0f}" for row, value in epochs.items())
        report.say(f"Seconds per epoch of {args.images} images: {text}.")
        if args.device == "cuda":
            speed = product_speed(args.device)
            # A backward pass costs two forward passes.
            work = 3 * 2 * multiply_adds(model) * args.batch_size / float(np.median(seconds["baseline"]))
            report.say(
                f"Baseline {work / 1e12:.0f} TFLOP/s; a bfloat16 product of 8192 x 8192 matrices {speed / 1e12:.0f}: "
                f"{work / speed:.0%}."
            )
        del steps
        memory(report, args, folder)
    report.close()


def make_model(model: WideResNetConfig) -> torch.nn.Module:
    from irl.models.wide_resnet import WideResNet

    return WideResNet(10, model)


def memory(report: Report, args: argparse.Namespace, folder: Path) -> None:
    found = peaks(peak, {name: (args, name, folder) for name in [*PRESETS, SEPARATE]})
    base = found["irl_batching"]
    text = ", ".join(f"{name} {value:.0f} MiB ({value / base:.3f})" for name, value in found.items())
    report.say(f"Peak memory of three updates, measured once (in brackets its ratio to irl_batching): {text}.")


if __name__ == "__main__":
    main()
