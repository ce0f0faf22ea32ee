"""One update in float32 and in bfloat16, as it is and compiled, and its share of what a matrix product reaches.

The rows and sizes are those of methods.py. Floating-point operations are those of products and convolutions, counted
by torch in one update without oneDNN, whose LSTM it does not count. A share is the operations a second of an update
divided by those of a product of two 1024 x 1024 matrices of the same precision, which runs in the same rounds.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from harness import Report, alternate, arguments, median_interval, parse
from methods import PARTS
from torch.utils.flop_counter import FlopCounterMode

from irl.core.machine import computes_bf16

# What was compiled before, here or in an earlier run, is compiled again: its time is a result.
torch.compiler.config.force_disable_caches = True
ROWS = ("baseline", "IRL loss")
PRECISIONS = {"float32": torch.float32, **({"bf16": torch.bfloat16} if computes_bf16("cpu") else {})}
SIZE, PRODUCTS = 1024, 10


def products(dtype: torch.dtype) -> Callable[[], Any]:
    a = torch.randn(SIZE, SIZE, dtype=dtype)
    return lambda: [a @ a for _ in range(PRODUCTS)]


def operations(step: Callable[[], Any]) -> int:
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def compile_time(step: Callable[[], Any]) -> float:
    """Seconds of the first update, in which all is compiled, less those of the next."""
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return times[0] - times[1]


def main() -> None:
    parser = arguments(__doc__, rounds=20)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parse(parser)
    report = Report("Precision and compilation on a CPU", args)
    report.say(
        "One update. A share is that of a product of two 1024 x 1024 matrices of the same precision."
        + ("" if "bf16" in PRECISIONS else " This processor does not compute in bf16.")
    )
    with tempfile.TemporaryDirectory() as name:
        for part in args.parts:
            measure(part, Path(name), args.rounds)
    report.close()


def measure(part: str, folder: Path, rounds: int) -> None:
    """Print the table of one modality."""
    make = PARTS[part][0]
    work = {"product": PRODUCTS * 2 * SIZE**3, **{row: operations(make(row, folder)) for row in ROWS}}
    steps: dict[Any, Callable[[], Any]] = {("product", name, ""): products(kind) for name, kind in PRECISIONS.items()}
    for row in ROWS:
        for name in PRECISIONS:
            steps[row, name, ""] = make(row, folder, name == "bf16")
            if part != "speech":  # its batches differ in length
                step = make(row, folder, name == "bf16", compiled=True)
                steps[row, name, f", compiled in {compile_time(step):.0f} s"] = step
    seconds = alternate(steps, rounds, label=part)
    print(f"| {part} | GFLOP | ms | GFLOP/s | share | time in float32 / time |\n|---|---|---|---|---|---|")
    for (row, name, compiled), own in seconds.items():
        each = [work[row] / 1e9, 1000 * np.median(own), work[row] / 1e9 / np.median(own)]
        share = np.median(work[row] / work["product"] * seconds["product", name, ""] / own)
        gain = "1" if (name, compiled) == ("float32", "") else median_interval(seconds[row, "float32", ""] / own)
        print(f"| {row}, {name}{compiled} | {' | '.join(f'{x:.3g}' for x in each)} | {share:.0%} | {gain} |")
    print()


if __name__ == "__main__":
    main()
