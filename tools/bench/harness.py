"""Fair timing of alternatives side by side in one process: alternating steps, paired ratios with an interval.

A machine's speed drifts, and neighbours come and go. So every round runs each alternative once, in an order that turns
round from round to round, and what is compared is the ratio within a round: its median over the rounds with a 95 %
interval from order statistics (free of assumptions about the distribution).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from math import comb
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

# Allocator settings under which freed memory is kept, as long-running loaders come to do; `run.py` sets them for all.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_MMAP_THRESHOLD_": "8589934592"}


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios and its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def median_interval(values: np.ndarray) -> Ratio:
    """The median of n values; the k-th smallest and k-th largest enclose it with 95 % confidence or more (binomial)."""
    x = np.sort(values)
    n, k = len(x), 0
    while k + 1 <= n // 2 and sum(comb(n, i) for i in range(k + 1)) / 2**n <= 0.025:
        k += 1
    return Ratio(float(np.median(x)), float(x[max(k - 1, 0)]), float(x[min(n - k, n - 1)]))


def alternate(
    steps: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 2,
    label: str = "",
    after: Callable[[], Any] = lambda: None,
    limit: float = math.inf,
) -> dict[str, np.ndarray]:
    """Seconds of each step in each round, (rounds,) by name.

    after: waits for what a step has begun, such as work on a GPU, before the clock is read. limit: seconds after which
    no further round begins.
    """
    from irl.core.logging import progress

    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + limit
    for i in progress(range(-warmup, rounds), label or "rounds", unit="round"):
        if i > 0 and time.perf_counter() > end:
            break
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.perf_counter()
            steps[name]()
            after()
            spent = time.perf_counter() - begin
            if i >= 0:
                seconds[name].append(spent)
    return {name: np.array(values) for name, values in seconds.items()}


def peaks(measure: Callable[..., float], arguments: Mapping[str, tuple[Any, ...]]) -> dict[str, float]:
    """What `measure`, a function of a module, returns of each tuple of arguments, in processes of their own whose
    allocator gives freed memory back."""
    settings = {key: os.environ.pop(key) for key in KEEP_MEMORY if key in os.environ}
    # Every large block is a mapping of its own, given back when freed: the peak is what lives, not a heap's holes.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    try:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            return {name: pool.apply(measure, own) for name, own in arguments.items()}
    finally:
        del os.environ["MALLOC_MMAP_THRESHOLD_"]
        os.environ.update(settings)


class Report:
    """Prints what one benchmark found as a section in Markdown."""

    def __init__(self, title: str, args: argparse.Namespace, packages: tuple[str, ...] = ()) -> None:
        self.rounds, self.packages = args.rounds, ("torch", "numpy", *packages)
        print(f"## {title}\n")

    def say(self, text: str) -> None:
        print(text + "\n")

    def table(self, seconds: Mapping[str, np.ndarray], ours: str, work: float = 0.0, unit: str = "") -> None:
        """A row for each alternative: median time, work per second, and its time divided by that of `ours`, paired."""
        rate = f" {unit} |" if unit else ""
        print(f"| | median, ms |{rate} time / time of {ours} |")
        print("|---|---|" + ("---|" if unit else "") + "---|")
        for name, values in seconds.items():
            ratio = median_interval(values / seconds[ours])
            median = float(np.median(values))
            cells = [name, f"{1000 * median:.3g}"]
            if unit:
                cells.append(f"{work / median:,.0f}" if work / median >= 100 else f"{work / median:.3g}")
            print(f"| {' | '.join(cells)} | {'1' if name == ours else ratio} |")
        print()

    def close(self) -> None:
        versions = ", ".join(f"{name} {version(name)}" for name in self.packages)
        print(f"{self.rounds} rounds; {machine()}; {versions}.\n")


def machine() -> str:
    """Processor, threads, and what the allocator does with freed memory."""
    import torch

    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    kept = all(os.environ.get(key) == value for key, value in KEEP_MEMORY.items())
    cpu = names[0].partition(":")[2].strip() if names else platform.processor()
    allocator = "keeps freed memory" if kept else "with the system's defaults"
    return f"{cpu}, {torch.get_num_threads()} thread(s); allocator {allocator}"


def arguments(description: str, rounds: int = 30) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="at least 6, or there is no 95 %% interval")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    import torch

    args = parser.parse_args()
    if args.rounds < 6:
        parser.error(f"--rounds must be at least 6, got {args.rounds}")
    torch.set_num_threads(args.threads)
    return args
