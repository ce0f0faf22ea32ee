"""Vocabulary and feature statistics of the training set: python -m irl.prepare CONFIG.yaml [key=value ...]"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from irl import command, files
from irl.data.features import LogMel
from irl.data.kaldi import read_data_dir, read_wave
from irl.data.vocabulary import Vocabulary
from irl.experiment import read_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.prepare", description="Vocabulary and feature statistics.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--check", nargs="*", default=[], help="test directories whose text must be writable too")
    args = parser.parse_intermixed_args()
    settings = read_config(args.config, args.overrides)
    utterances = read_data_dir(settings.train_dir, allow_pipes=settings.allow_pipes)
    vocabulary = Vocabulary.from_texts(u.text or "" for u in utterances)
    for folder in [settings.dev_dir, *args.check]:
        for u in read_data_dir(folder, allow_pipes=settings.allow_pipes):
            vocabulary.encode(u.text or "", f"{folder}/text: {u.id}")
    log_mel = LogMel(settings.features)
    frames, total, squares = 0, torch.zeros(settings.features.dim), torch.zeros(settings.features.dim)
    total, squares = total.double(), squares.double()
    for u in command.progress(utterances, "statistics", unit="utt"):
        x = log_mel(torch.from_numpy(read_wave(u, settings.features.rate))).double()
        frames, total, squares = frames + len(x), total + x.sum(0), squares + x.square().sum(0)
    vocabulary.write(Path(settings.vocabulary))
    # Sums, not means: law 5.
    features = dataclasses.asdict(settings.features)
    sums = {"features": features, "frames": frames, "sum": total.tolist(), "sum_of_squares": squares.tolist()}
    files.write(Path(settings.statistics), json.dumps(sums) + "\n")
    print(f"{settings.vocabulary}: {len(vocabulary)} tokens; {settings.statistics}: {frames} frames")


if __name__ == "__main__":
    command.run_command(main)
