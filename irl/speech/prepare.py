"""Vocabulary and feature statistics of a training set; checking data directories."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Iterator, Sequence

import torch

from irl.core import atomic_io
from irl.core.arguments import positive
from irl.core.logging import progress
from irl.data.kaldi import read_data_dir, read_wave, write_table
from irl.data.vocabulary import Vocabulary
from irl.speech.config import SpeechConfig
from irl.training.running_covariance import RunningCovariance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `irl validate`."""
    parser.add_argument("--rate", type=positive, required=True, help="expected sampling rate in Hz")
    parser.add_argument("--no-text", action="store_true", help="accept data directories without text")
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")


def validate(args: argparse.Namespace) -> Iterator[str]:
    """Read every utterance of each data directory, and write utt2num_samples."""
    for folder in args.paths:
        utterances = read_data_dir(folder, not args.no_text, args.allow_pipes)
        counts, silent = {}, 0
        for u in progress(utterances, f"check {folder.name}", unit="utt"):
            wave = read_wave(u, args.rate)
            counts[u.id] = str(len(wave))
            silent += not wave.any()
        write_table(folder / "utt2num_samples", counts)
        hours = math.fsum(map(int, counts.values())) / args.rate / 3600
        speakers = Counter(u.speaker for u in utterances)
        note = f", {silent} of them digital silence" if silent else ""
        yield f"{folder}: {len(utterances)} utterances{note}, {len(speakers)} speakers, {hours:.2f} h"


def prepare(settings: SpeechConfig, check: Sequence[str]) -> str:
    """Write the vocabulary of the training transcripts and the sums of the features. check: test sets whose characters
    must be in the vocabulary."""
    utterances = read_data_dir(settings.train_dir, allow_pipes=settings.allow_pipes)
    vocabulary = Vocabulary.from_texts(u.text or "" for u in utterances)
    for folder in [settings.dev_dir, *check]:
        for u in read_data_dir(folder, allow_pipes=settings.allow_pipes):
            vocabulary.encode(u.text or "", f"{folder}/text: {u.id}")
    extract = settings.features.build()
    statistics = RunningCovariance(diagonal=True, centred=False)
    for u in progress(utterances, "statistics", unit="utt"):
        statistics.add(extract(torch.from_numpy(read_wave(u, settings.features.rate))))
    frames, total, squares = statistics.sums()
    vocabulary.write(Path(settings.vocabulary))
    # Sums, not means: law 5.
    features = dataclasses.asdict(settings.features)
    sums = {"features": features, "frames": frames, "sum": total, "sum_of_squares": squares}
    atomic_io.write(Path(settings.statistics), json.dumps(sums) + "\n")
    return f"{settings.vocabulary}: {len(vocabulary)} tokens; {settings.statistics}: {frames} frames"
