"""Training on a corpus of WSJ's shape: time to the first update, memory over an epoch, time spent waiting for data.

    cd egs/wsj && python local/make_mini.py data/scale --utterances 30000
    python ../../tools/bench/scale.py --data data/scale --bank DIR       a bank of irl.make_bank, or MUSAN

Two runs of `irl.train` with pairs from the first update on and one worker: one epoch of the mini configuration, for
memory; and some updates of the full-size model of conf/wsj, for waiting. Both figures are those that training prints.
"""

from __future__ import annotations

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
from harness import KEEP_MEMORY, Report, arguments

from irl.command import run_command
from irl.data.kaldi import read_table

ROOT = Path(__file__).parents[2]
CONF = ROOT / "egs" / "wsj" / "conf"
ENVIRONMENT = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def train(conf: Path, exp: Path, overrides: list[str]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds from launch to the end of the first update, and the lines of metrics."""
    command = [sys.executable, "-m", "irl.train", str(conf), "--exp", str(exp), "train.log_every=1", *overrides]
    begin, metrics = time.monotonic(), exp / "metrics.jsonl"
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        while not metrics.exists() and process.poll() is None:
            time.sleep(0.05)
        started = time.monotonic() - begin
    if process.returncode:
        sys.exit(f"error: training ended with status {process.returncode}")
    return started, [line for line in map(json.loads, metrics.read_text().splitlines()) if "total" in line]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and dev/, validated")
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=150, help="of the full-size model")
    args = parser.parse_args()
    utterances = len(read_table(args.data / "train" / "text"))
    samples = sum(map(int, read_table(args.data / "train" / "utt2num_samples").values()))
    report = Report("Training on 30,000 utterances", args)
    with tempfile.TemporaryDirectory() as folder:
        data = [
            f"train_dir={args.data}/train",
            f"dev_dir={args.data}/dev",
            f"vocabulary={folder}/tokens.txt",
            f"noise.musan={args.bank}",
            "train.clean_updates=0",
            "short_first=false",
            "train.workers=1",
            "train.accelerator=cpu",
        ]
        runs = {}
        for name, batch in (("mini", 8), ("wsj", 32)):
            conf = CONF / name / "irl_loss.yaml"
            own = [*data, f"statistics={folder}/{name}.json", f"train.batch_size={batch}"]
            prepare = [sys.executable, "-m", "irl.prepare", str(conf), *own]
            subprocess.run(prepare, check=True, env=ENVIRONMENT, stdout=sys.stderr)
            updates = math.ceil(utterances / batch) if name == "mini" else args.updates
            stop = [f"train.updates={updates}", "train.eval_every=0", "train.average=0", "train.save_every=100000"]
            runs[name] = train(conf, Path(folder) / name, [*own, *stop])
    hours = samples / 16000 / 3600
    report.say(
        f"{utterances} utterances, {hours:.1f} h, in random order. Pairs and the IRL loss from the first update on, "
        "one thread for training, one worker for the data."
    )
    print("| model | updates | s to the first | s an update | waiting for data | memory in tenths of the run, MB |")
    print("|---|---|---|---|---|---|")
    for name, (started, lines) in runs.items():
        memory = [part.mean() for part in np.array_split([line["memory_mb"] for line in lines], 10)]
        last = lines[-1]
        cells = (
            f"conf/{name}",
            str(last["step"]),
            f"{started:.1f}",
            f"{last['seconds'] / last['step']:.2f}",
            f"{last['waited']:.2%}",
            " ".join(f"{m:.0f}" for m in memory),
        )
        print(f"| {' | '.join(cells)} |")
    print()
    report.close()


if __name__ == "__main__":
    run_command(main)
