"""A recipe on a corpus of tones that trains in a second, and its commands, for the tests of the entry points."""

import contextlib
import importlib
import io
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from refusals import note_command

from irl.core.errors import run_command
from irl.data.kaldi import Utterance, write_data_dir

ROOT = Path(__file__).parent.parent
RATE = 8000
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

CONFIG = """
task: speech
train_dir: data/train
dev_dir: data/dev
vocabulary: data/lang/tokens.txt
statistics: data/lang/statistics.json
features: {rate: 8000, mels: 10, stack: 2}
model: {encoder_layers: 2, encoder_units: 8, subsampling: [1, 1], decoder_layers: 2, decoder_units: 8,
        embedding_units: 4, attention: additive, attention_units: 8, dropout: 0.2}
noise: {musan: data/bank, kinds: [additive, volume]}
objective: {alpha: 0.5, beta: 0.5, gamma: 0.0}
train: {updates: 24, clean_updates: 8, batch_size: 4, warmup_updates: 5, threads: 1, save_every: 7, log_every: 3}
"""
LOSS = "base: irl_batching.yaml\nobjective: {alpha: 0.5, beta: 0.5, gamma: 1.0, warmup: 4}\n"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(module, *args, cwd, check=True):
    """A command as `python -m module args` runs it, but in this process: importing takes longer than most of them."""
    out, err = io.StringIO(), io.StringIO()
    before, argv, status = os.getcwd(), sys.argv, 0
    sys.argv = [module, *map(str, args)]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_command(importlib.import_module(module).main)
    except SystemExit as end:
        if isinstance(end.code, str):
            err.write(end.code + "\n")
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os.chdir(before)
        sys.argv = argv
        # Training in half precision switches oneDNN off in its process.
        torch.backends.mkldnn.set_flags(True)
    assert status == 0 or not check, err.getvalue()
    done = Done(status, out.getvalue(), err.getvalue())
    note_command([module, *args], done)
    return done


def speech(text, rng):
    """Each letter is a tone of 60 ms."""
    t = np.arange(int(0.06 * RATE)) / RATE
    pieces = [0.2 * np.sin(2 * np.pi * (400 + 150 * " abcd".index(c)) * t) for c in text]
    return np.concatenate(pieces) + 0.01 * rng.normal(size=len(text) * len(t))


def build_recipe(folder):
    """A recipe directory with data, a bank, configurations and stage 3 done."""
    rng = np.random.default_rng(0)
    for name, size in (("train", 22), ("dev", 5)):
        rows = []
        for i in range(size):
            text = "".join(rng.choice(list("abcd"), size=rng.integers(2, 7)))
            path = folder / "wav" / f"{name}{i:02d}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, speech(text, rng), RATE)
            rows.append(Utterance(f"spk{i % 2}-{name}{i:02d}", str(path), f"spk{i % 2}", text))
        write_data_dir(folder / "data" / name, rows)
    for category in ("noise", "music"):
        for i in range(3):
            path = folder / "data" / "bank" / category / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.normal(size=6000), RATE)
    (folder / "irl_batching.yaml").write_text(CONFIG)
    (folder / "irl_loss.yaml").write_text(LOSS)
    run("irl.bin.validate", "speech", "--rate", RATE, "data/train", "data/dev", cwd=folder)
    run("irl.bin.prepare", "irl_batching.yaml", cwd=folder)
    return folder


def same_weights(a, b):
    assert a["model"].keys() == b["model"].keys()
    return all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"]) and all(
        torch.equal(x, y)
        for i in a["optimizer"]["state"]
        for x, y in zip(a["optimizer"]["state"][i].values(), b["optimizer"]["state"][i].values())
    )


def metrics(path):
    """Lines without what is measured of the machine."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "memory_mb", "waited")} for line in lines]
