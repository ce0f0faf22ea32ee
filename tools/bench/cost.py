"""What training on WSJ si284 costs: measured steps of a recipe's configurations, times its numbers of updates.

    python tools/bench/cost.py [--conf egs/wsj/conf/wsj] [--device cuda --precision bf16-mixed]

A batch of the configuration's size with utterances of si284's mean length and number of characters, from memory: the
loader is not in it (training prints how long it waits for data). Hours on N devices are those of one divided by N, a
bound that data-parallel training comes near and does not pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import torch
from harness import Report, alternate, arguments, median_interval, parse

from irl.core.errors import run_command
from irl.models.encoder_decoder import EncoderDecoder
from irl.speech.data import Batch
from irl.speech.task import SpeechStep
from irl.training.config import OPTIMIZERS
from irl.training.distributed import BatchTotals, build
from irl.training.registry import read_config

# WSJ si284: 81.3 h in 37,416 utterances, of 101 characters on average; its recogniser has 52 tokens in ESPnet.
SECONDS, CHARACTERS, TOKENS = 7.8, 101, 52
METHODS = ("baseline", "irl_batching", "irl_loss")


def make_step(path: Path, rows: int, device: str, precision: str) -> tuple[Any, Callable[[], None]]:
    """The configuration, and one step of training by it on random input."""
    settings = read_config(path, [])
    torch.manual_seed(0)
    fabric = build("gpu" if device == "cuda" else "cpu", precision)
    model = EncoderDecoder(settings.features.dim, TOKENS, settings.model)
    kind, options = OPTIMIZERS[settings.train.optimizer]
    # Weights stay as they are, so that random targets cannot make them diverge; the step does all of its work.
    optimizer = kind(model.parameters(), lr=0.0, **options)
    objective = settings.objective.build()
    step = SpeechStep(model, objective, settings.ctc_weight, settings.label_smoothing)
    module, optimizer = fabric.setup(step, optimizer)
    frames = settings.features.frames(round(SECONDS * settings.features.rate))
    x = torch.randn(rows, frames, settings.features.dim)
    y = torch.randint(2, TOKENS - 1, (rows, CHARACTERS))
    lens = {"x_lens": torch.full((rows,), frames), "y_in_lens": torch.full((rows,), CHARACTERS)}
    clean = {"x": x, "y_in": y.roll(1, 1), **lens}
    noisy = [{**clean, "x": x + 0.3 * torch.randn_like(x)}] if objective.needs_noisy else []
    totals = BatchTotals(rows, rows * CHARACTERS)
    batch = fabric.to_device(Batch([""] * rows, clean, noisy, y, lens["y_in_lens"], totals))

    def run() -> None:
        fabric.backward(module(batch, "paired", 10**6).total)
        fabric.clip_gradients(module, optimizer, max_norm=settings.train.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return settings, run


def main() -> None:
    parser = arguments(__doc__)
    root = Path(__file__).parents[2]
    parser.add_argument("--conf", type=Path, default=root / "egs/wsj/conf/wsj")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--batch-size", type=int, help="measure with so many rows and scale up to the configuration's")
    args = parse(parser)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here")
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    made = {}
    for method in METHODS:
        size = args.batch_size or read_config(args.conf / f"{method}.yaml", []).train.batch_size
        made[method] = make_step(args.conf / f"{method}.yaml", size, args.device, args.precision)
    seconds = alternate({method: step for method, (_, step) in made.items()}, args.rounds, warmup=1, label="steps")
    train = made["irl_loss"][0].train
    scale = train.batch_size / size
    report = Report(f"Cost of WSJ si284, {args.conf.name}, {device}, {args.precision}", args)
    report.say(
        f"Batches of {size} utterances of {SECONDS} s and {CHARACTERS} characters, clean or as clean-noisy pairs; "
        f"{train.updates} updates of {train.batch_size} utterances, the first {train.clean_updates} of them clean."
    )
    report.table(seconds, "baseline", size, "utterances/s")
    print("| | hours on one device | least hours on eight |\n|---|---|---|")
    clean = median_interval(seconds["baseline"]).median
    for method, values in seconds.items():
        paired = median_interval(values).median
        hours = scale * (train.clean_updates * clean + (train.updates - train.clean_updates) * paired) / 3600
        print(f"| {method} | {hours:,.1f} | {hours / 8:,.1f} |")
    print()
    report.close()


if __name__ == "__main__":
    run_command(main)
