"""Several processes against one, each of one thread on its own core: updates per second at the same global batch.

Each round trains the same configuration once with each number of processes, begun by torchrun, and takes the time of
training between two log lines, so that neither start nor first updates count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import language_model
import numpy as np
import wide_resnet
import yaml
from harness import KEEP_MEMORY, Report, arguments, median_interval, parse

from irl.core import config
from irl.core.errors import run_command
from irl.core.logging import progress

ROOT = Path(__file__).parents[2]
# Only what it begins runs for long.
os.environ.update({**KEEP_MEMORY, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def train(of: int, folder: Path, exp: Path, updates: int) -> float:
    """Seconds of the last three quarters of the updates."""
    begin = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={of}"] if of > 1 else []
    overrides = [f"train.updates={updates}", f"train.log_every={updates // 4}", "train.save_every=1000000"]
    command = [sys.executable, *begin, "-m", "irl.bin.train", str(folder / "conf.yaml"), *overrides, "--exp", str(exp)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: training ended with status {done.returncode}: {done.stderr[-1000:]}")
    lines = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    seconds = {line["step"]: line["seconds"] for line in lines if "total" in line}
    return float(seconds[updates] - seconds[updates // 4])


def main() -> None:
    parser = arguments(__doc__ or "", rounds=6)
    parser.add_argument("--model", choices=("language", "vision"), default="vision", help="2x200 LSTM, WRN-16-2")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--updates", type=int, default=40)
    args = parse(parser)
    if args.updates % 4 or args.processes < 2:
        parser.error(
            f"--updates must be divisible by 4 and --processes at least 2, got {args.updates}, {args.processes}"
        )
    shape = {
        "device": "cpu",
        "precision": "32-true",
        "threads": 1,
        "batch_size": 128,
        "copies": 1,
        "depth": 16,
        "width": 2,
    }
    text = {"words": 10000, "units": 200, "bptt": 35, "batch_size": 20}
    made = language_model if args.model == "language" else wide_resnet
    sizes = argparse.Namespace(**{**shape, **(text if args.model == "language" else {})})
    names = {1: "1 process", args.processes: f"{args.processes} processes"}
    seconds: dict[str, list[float]] = {name: [] for name in names.values()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made.prepare(folder, sizes)
        settings = config.to_dict(made.settings_of(sizes, "irl_loss", folder))
        (folder / "conf.yaml").write_text(yaml.safe_dump(settings))
        for i in progress(range(args.rounds), "rounds", unit="round"):
            for of in sorted(names, reverse=bool(i % 2)):
                seconds[names[of]].append(train(of, folder, folder / f"exp.{of}.{i}", args.updates))
    found = {name: np.array(values) for name, values in seconds.items()}
    report = Report(f"IRL loss in {args.processes} processes, {args.model}", args, ("lightning-fabric",))
    report.table(found, "1 process", 0.75 * args.updates, "updates/s")
    one, several = found.values()
    report.say(f"Speed-up of {args.processes} processes: {median_interval(one / several)}.")
    report.close()


if __name__ == "__main__":
    run_command(main)
