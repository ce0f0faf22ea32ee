"""Where the time of a training goes: start, data, forward, loss, backward, optimizer, logging, evaluation, saving.

    python tools/bench/where.py egs/wsj/exp/mini/irl_loss.1 [RUN ...] [--updates 100]

Each RUN is the folder of a run of a recipe, whose configuration and data it takes; the run itself stays as it is. A
clock stands beside the training loop and is handed from part to part, so that the parts add up to the whole. On a CPU:
a GPU works on while the clock is handed over.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator

from harness import machine

IMPORTS, BUILD, FIRST = START = ("imports", "model and lists of data", "first update")
DATA, FORWARD, LOSSES, BACKWARD, STEP, LOGGING, LOOP = UPDATE = (
    "reading, noise, features", "model, forward", "losses and distance", "backward", "gradient norm and optimizer",
    "logging", "the loop itself",
)  # fmt: skip
# Their inner parts are not told apart.
EVALUATION, SAVING = WHOLE = ("one evaluation on dev", "one checkpoint")
WARM = 20


class Clock:
    """Seconds of each part. A part within another stops the clock of the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.parts = [LOOP]
        self.since = time.perf_counter()

    def hand_over(self) -> None:
        now = time.perf_counter()
        self.seconds[self.parts[-1]] += now - self.since
        self.since = now

    def enter(self, part: str) -> None:
        self.hand_over()
        self.parts.append(part)

    def leave(self) -> None:
        self.hand_over()
        self.parts.pop()

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count the calls of a method to a part."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.parts[-1] in WHOLE:
                return method(*args, **kwargs)
            self.calls[part] += 1
            self.enter(part)
            try:
                return method(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, name, timed)

    def each(self, items: Iterator[Any], part: str) -> Iterator[Any]:
        """The same items; what it takes to make each is counted to a part."""
        while True:
            self.enter(part)
            item = next(items, None)
            self.leave()
            if item is None:
                return
            yield item


def measure(run: Path, updates: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of the start, and of each part of so many updates, one evaluation and one checkpoint."""
    path = run / "config.json"
    content = json.loads(path.read_text())
    begin = time.perf_counter()
    # A modality imports its modules when they are needed.
    modules = ["irl.bin.train", f"irl.{content['task']}.task"]
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], check=True)
    start = {IMPORTS: time.perf_counter() - begin}
    for module in modules:
        importlib.import_module(module)
    from irl.training.registry import saved_config
    from irl.training.trainer import Trainer

    content["train"]["accelerator"] = "cpu"
    settings = saved_config({"config": content}, path)
    os.chdir(run.parents[2])
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(settings, Path(folder))
        start[BUILD] = time.perf_counter() - begin
        # Methods share the clean phase; what tells them apart comes after it.
        first = trainer.state.step = settings.train.clean_updates
        clock = Clock()
        model, batches = trainer.raw_module.model, trainer.batches
        trainer.batches = lambda stop: clock.each(batches(stop), DATA)  # type: ignore[method-assign]
        for owner, name, part in (
            # Texts are read with the hidden state of the words before.
            (model, "read" if hasattr(model, "read") else "forward", FORWARD),
            (trainer.raw_module, "forward", LOSSES),
            (trainer.fabric, "backward", BACKWARD),
            (trainer.fabric, "clip_gradients", STEP),
            (trainer.optimizer, "step", STEP),
            (trainer.optimizer, "zero_grad", STEP),
            (trainer.metrics, "advance", LOGGING),
            (trainer.metrics, "log_sums", LOGGING),
            (trainer, "evaluate", EVALUATION),
            (trainer.state, "save", SAVING),
        ):
            clock.watch(owner, name, part)
        trainer.run(first + 1)
        clock.hand_over()
        start[FIRST] = sum(clock.seconds[part] for part in UPDATE)
        trainer.run(first + WARM)
        clock.hand_over()
        clock.seconds.clear()
        clock.calls.clear()
        trainer.run(first + WARM + updates)
        clock.hand_over()
        each = {part: clock.seconds[part] / clock.calls[part] for part in WHOLE}
        return start, {**clock.seconds, **each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, such as egs/ptb/exp/mini/baseline.1"
    )
    parser.add_argument("--updates", type=int, default=100)
    args = parser.parse_args()
    runs = [run.resolve() for run in args.runs]
    found = [(f"{run.parts[-4]}, {run.parts[-2]}/{run.name}", *measure(run, args.updates)) for run in runs]
    print("## Where the time of a training goes\n")
    print("| | " + " | ".join(name for name, _, _ in found) + " |\n|---|" + "---|" * len(found))
    for part in START:
        print(f"| {part}, s | " + " | ".join(f"{start[part]:.1f}" for _, start, _ in found) + " |")
    updates = [sum(spent.get(part, 0) for part in UPDATE) for _, _, spent in found]
    print("| an update, ms | " + " | ".join(f"{1000 * total / args.updates:.1f}" for total in updates) + " |")
    for part in UPDATE:
        shares = [spent.get(part, 0) / total for (_, _, spent), total in zip(found, updates)]
        print(f"| - {part} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    for part in WHOLE:
        print(f"| {part}, s | " + " | ".join(f"{spent.get(part, 0):.2f}" for _, _, spent in found) + " |")
    print(f"\n{args.updates} updates after {WARM}; {machine()}.\n")


if __name__ == "__main__":
    main()
