"""A training step with the IRL loss on all eight layers beside one of IRL batching.

With --all also with the clean side held constant, and with a forward pass for each view instead of one for both.

The 4-4 encoder-decoder with CTC, forward, backward and Adam, on the same stacked batch of clean and noisy copies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import torch
from harness import Report, alternate, arguments, parse, peaks

from irl.core.output import tree_map
from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from irl.objective import L2, Cosine, IRLLoss
from irl.speech.data import Batch
from irl.speech.task import SpeechStep, task_loss
from irl.training.distributed import BatchTotals

TOKENS, MELS = 30, 80
SIZES = {"paper": (320, 8, 438, 60), "fsdd": (96, 8, 80, 25)}
OBJECTIVES = {
    "IRL loss": IRLLoss(gamma=0.1, distance=L2("mean") + Cosine()),
    "IRL loss, clean side constant": IRLLoss(gamma=0.1, distance=L2("mean") + Cosine(), stop_grad="clean"),
    "IRL batching": IRLLoss(gamma=0.0),
    "baseline": IRLLoss.preset("baseline"),
}


def batch_of(units: int, rows: int, frames: int, tokens: int) -> Batch:
    torch.manual_seed(0)
    lens = torch.randint(frames * 3 // 4, frames + 1, (rows,))
    lens[0] = frames
    y = torch.randint(1, TOKENS - 1, (rows, tokens))
    y_lens = torch.full((rows,), tokens)
    clean = {"x": torch.randn(rows, frames, MELS), "x_lens": lens, "y_in": y.roll(1, 1), "y_in_lens": y_lens}
    noisy = {**clean, "x": clean["x"] + 0.3 * torch.randn(rows, frames, MELS)}
    return Batch([str(i) for i in range(rows)], clean, [noisy], y, y_lens, BatchTotals(rows, rows * tokens))


def make_step(
    size: tuple[int, int, int, int], name: str, device: str = "cpu", half: torch.dtype | None = None
) -> Callable[[], None]:
    """One training step of one objective over a model of its own. half: the type of autocast, if any."""
    units = size[0]
    torch.manual_seed(1)
    config = EncoderDecoderConfig(
        encoder_units=units, decoder_units=units, embedding_units=units, attention_units=units, dropout=0.1
    )
    objective = OBJECTIVES[name.removesuffix(", a pass for each view")]
    module = SpeechStep(EncoderDecoder(MELS, TOKENS, config), objective, 0.5).to(device)
    optimizer = torch.optim.Adam(module.parameters())
    batch = tree_map(lambda x: x.to(device), batch_of(*size))

    def step() -> None:
        with torch.autocast(device, half, enabled=half is not None):
            total = module(batch, "paired", 10**6).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    def two_passes() -> None:
        loss = lambda view: task_loss(view, batch.y, batch.y_lens, 0.5)  # noqa: E731
        assert batch.clean is not None
        views = [module.model(**inputs) for inputs in (batch.clean, *batch.noisy)]
        objective.terms(views, loss, 10**6).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return two_passes if name.endswith("each view") else step


def peak(size: tuple[int, int, int, int], name: str, threads: int) -> float:
    """Most resident memory during three steps less that before them, in MiB; to be called in a process of its own."""
    torch.set_num_threads(threads)
    step = make_step(size, name)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    for _ in range(3):
        step()
    return resident("VmHWM") - before


def resident(key: str) -> float:
    """A figure of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--all", action="store_true", help="all variants")
    args = parse(parser)
    size = SIZES[args.size]
    report = Report(f"IRL loss beside IRL batching, size {args.size}", args)
    units, rows, frames, tokens = size
    report.say(f"{units} units, {rows} clean and {rows} noisy rows of up to {frames} frames, {tokens} tokens.")
    names = ["IRL loss", "IRL batching"]
    if args.all:
        names = [*(name for name in OBJECTIVES if name != "baseline"), "IRL loss, a pass for each view"]
    steps = {name: make_step(size, name) for name in names}
    seconds = alternate(steps, args.rounds, label="steps")
    report.table(seconds, "IRL batching", 2 * rows, "rows/s")
    found = peaks(peak, {name: (size, name, args.threads) for name in names})
    base = found["IRL batching"]
    text = ", ".join(f"{name} {value:.0f} MiB ({value / base:.3f})" for name, value in found.items())
    report.say(
        f"Peak memory of three steps and its ratio to IRL batching, once each, in a process of its own whose "
        f"allocator gives freed memory back: {text}."
    )
    report.close()


if __name__ == "__main__":
    main()
