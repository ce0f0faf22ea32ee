"""What the parts of `gpu.py` share: a part measures one thing after another, and writes down each result at once."""

from __future__ import annotations

import argparse
import json
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Iterable

import torch
from torch import Tensor

Row = dict[str, Any]


class Part:
    """One part of the script, in a process of its own. device: "cuda" or "cpu"; tiny: sizes that only show that the
    code runs; folder: for what it writes meanwhile. It is ended after args.seconds."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.name, self.out, self.device, self.tiny = args.part, args.out, args.device, args.tiny
        self.folder, self.cifar10 = folder, args.cifar10
        self.end = time.monotonic() + args.seconds
        self.cuda = self.device == "cuda"

    def measure(self, what: str, function: Callable[[], Row | None]) -> Row:
        """Runs it and writes down what it returns. "ok": whether a check holds; without it there is nothing to hold.
        "skipped": why it was not done. An error is written down too, and the next thing goes on."""
        begin = time.monotonic()
        try:
            values = dict(function() or {})
            ok = values.pop("ok", True)
            status = "skipped" if "skipped" in values else "ok" if ok else "DIFFERS"
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            values, status = {"error": f"{type(error).__name__}: {error}"[-600:], "at": place}, "FAILED"
            traceback.print_exc()
        row = {"part": self.name, "what": what, "status": status, "seconds": round(time.monotonic() - begin, 2)}
        write(self.out, {**row, **values})
        return values

    def left(self) -> float:
        return self.end - time.monotonic()

    def synchronise(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def peak_mib(self, step: Callable[[], Any]) -> float:
        """Most memory of the device during three steps, less that before them."""
        if not self.cuda:
            return float("nan")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def write(out: Path, row: Row) -> None:
    """A line of gpu.jsonl, on the disk when this returns."""
    with (out / "gpu.jsonl").open("a") as file:
        file.write(json.dumps({key: rounded(value) for key, value in row.items()}) + "\n")


def rows(out: Path) -> list[Row]:
    path = out / "gpu.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest value expected; of infinite and NaN values they must be the same."""
    x, y = found.detach().double().cpu(), expected.detach().double().cpu()
    if x.shape != y.shape or not torch.equal(x.isfinite(), y.isfinite()):
        return float("inf")
    x, y = x[x.isfinite()], y[y.isfinite()]
    if not x.numel():
        return 0.0
    return float((x - y).abs().max() / y.abs().max().clamp(min=1e-30))


def worst(pairs: Iterable[tuple[str, Tensor, Tensor]]) -> tuple[float, str]:
    """The largest `error`, and of what."""
    found = [(error(x, y), name) for name, x, y in pairs]
    return max(found) if found else (0.0, "")
