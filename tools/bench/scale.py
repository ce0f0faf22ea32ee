"""Training on a corpus of WSJ's shape: time to the first update, memory over an epoch, time spent waiting for data.

    cd egs/wsj && . ./path.sh && python local/make_mini.py data/scale --utterances 30000
    irl validate data/scale/train data/scale/dev && irl make_bank data/scale/bank --name train
    python ../../tools/bench/scale.py --data data/scale --bank data/scale/bank --model mini|wsj [--updates N]

With pairs and the IRL loss from the first update on and one worker; the figures are those that training prints.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import machine

from irl.core.errors import run_command
from irl.data.kaldi import read_table
from irl.training.registry import read_config

ROOT = Path(__file__).parents[2]
CONF = ROOT / "egs" / "wsj" / "conf"
# The allocator is as the recipe's path.sh sets it.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def train(conf: Path, exp: Path, overrides: list[str]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds from launch to the end of the first update, and the lines of metrics."""
    command = [sys.executable, "-m", "irl.bin.train", str(conf), "--exp", str(exp), "train.log_every=1", *overrides]
    begin, metrics = time.monotonic(), exp / "metrics.jsonl"
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        while not metrics.exists() and process.poll() is None:
            time.sleep(0.05)
        started = time.monotonic() - begin
    if process.returncode:
        sys.exit(f"error: training ended with status {process.returncode}")
    return started, [line for line in map(json.loads, metrics.read_text().splitlines()) if "total" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and dev/, validated")
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--model", choices=("mini", "wsj"), default="mini", help="configuration")
    parser.add_argument("--updates", type=int, help="an epoch if not given")
    args = parser.parse_args()
    conf = CONF / args.model / "irl_loss.yaml"
    batch = read_config(conf, []).train.batch_size
    utterances = len(read_table(args.data / "train" / "text"))
    hours = sum(map(int, read_table(args.data / "train" / "utt2num_samples").values())) / 16000 / 3600
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            f"train_dir={args.data}/train",
            f"dev_dir={args.data}/dev",
            f"vocabulary={folder}/tokens.txt",
            f"statistics={folder}/statistics.json",
            f"noise.musan={args.bank}",
            f"train.updates={args.updates or math.ceil(utterances / batch)}",
            *("train.clean_updates=0", "short_first=false", "train.workers=1", "train.accelerator=cpu"),
            *("train.eval_every=0", "train.average=0", "train.save_every=100000"),
        ]
        prepare = [sys.executable, "-m", "irl.bin.prepare", str(conf), *settings]
        subprocess.run(prepare, check=True, env=ENVIRONMENT, stdout=sys.stderr)
        started, lines = train(conf, Path(folder) / "exp", settings)
    memory = [part.mean() for part in np.array_split([line["memory_mb"] for line in lines], 10)]
    last = lines[-1]
    print(f"## Training on {utterances:,} utterances, conf/{args.model}\n")
    print(
        f"{hours:.1f} h, utterances in random order, batches of {batch} pairs with the IRL loss; one thread for "
        f"training, one worker for the data; {machine()}.\n"
    )
    print("| updates | s to the first update | s per update | waiting for data | memory in each tenth of the run, MB |")
    print("|---|---|---|---|---|")
    tenths = " ".join(f"{m:.0f}" for m in memory)
    pace = f"{last['seconds'] / last['step']:.2f}"
    print(f"| {last['step']} | {started:.1f} | {pace} | {last['waited']:.2%} | {tenths} |\n")


if __name__ == "__main__":
    run_command(main)
