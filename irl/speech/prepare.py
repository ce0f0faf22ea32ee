"""Vocabulary and feature statistics of a training set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from irl.core import atomic_io
from irl.core.logging import progress


def prepare_speech(settings: Any, check: list[str]) -> str:
    from irl.data.features import LogMel
    from irl.data.kaldi import read_data_dir, read_wave
    from irl.data.vocabulary import Vocabulary

    utterances = read_data_dir(settings.train_dir, allow_pipes=settings.allow_pipes)
    vocabulary = Vocabulary.from_texts(u.text or "" for u in utterances)
    for folder in [settings.dev_dir, *check]:
        for u in read_data_dir(folder, allow_pipes=settings.allow_pipes):
            vocabulary.encode(u.text or "", f"{folder}/text: {u.id}")
    log_mel = LogMel(settings.features)
    frames, total, squares = 0, torch.zeros(settings.features.dim), torch.zeros(settings.features.dim)
    total, squares = total.double(), squares.double()
    for u in progress(utterances, "statistics", unit="utt"):
        x = log_mel(torch.from_numpy(read_wave(u, settings.features.rate))).double()
        frames, total, squares = frames + len(x), total + x.sum(0), squares + x.square().sum(0)
    vocabulary.write(Path(settings.vocabulary))
    # Sums, not means: law 5.
    features = dataclasses.asdict(settings.features)
    sums = {"features": features, "frames": frames, "sum": total.tolist(), "sum_of_squares": squares.tolist()}
    atomic_io.write(Path(settings.statistics), json.dumps(sums) + "\n")
    return f"{settings.vocabulary}: {len(vocabulary)} tokens; {settings.statistics}: {frames} frames"
