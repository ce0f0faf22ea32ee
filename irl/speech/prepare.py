"""Vocabulary and feature statistics of a training set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Sequence

import torch

from irl.core import atomic_io
from irl.core.fingerprint import record_inputs
from irl.core.logging import progress
from irl.data.kaldi import read_data_dir, read_wave
from irl.data.vocabulary import Vocabulary
from irl.speech.config import SpeechConfig
from irl.speech.fingerprint import data_fingerprint, transcripts_fingerprint
from irl.training.running_covariance import RunningCovariance


def prepare(settings: SpeechConfig, check: Sequence[str], methods: Sequence[SpeechConfig] = ()) -> str:
    """Write the vocabulary of the training transcripts and the sums of the features, a line for each of the feature
    settings of all methods. check: test sets whose characters must be in the vocabulary."""
    utterances = read_data_dir(settings.train_dir, allow_pipes=settings.allow_pipes)
    vocabulary = Vocabulary.from_texts(utterances.texts or ())
    for folder in [settings.dev_dir, *check]:
        found = read_data_dir(folder, allow_pipes=settings.allow_pipes)
        vocabulary.encode_all(found.texts or (), lambda i: f"{folder}/text: {found.ids[i]}")
    lines, counts = [], []
    for features in dict.fromkeys(own.features for own in (settings, *methods)):
        extract = features.build()
        statistics = RunningCovariance(diagonal=True, centred=False)
        for u in progress(utterances, "statistics", unit="utt"):
            statistics.add(extract(torch.from_numpy(read_wave(u, features.rate))))
        # Sums, not means: law 5.
        frames, total, squares = statistics.sums()
        sums = {"features": dataclasses.asdict(features), "frames": frames, "sum": total, "sum_of_squares": squares}
        lines.append(json.dumps(sums) + "\n")
        counts.append(f"{frames} frames")
    vocabulary.write(Path(settings.vocabulary))
    record_inputs(Path(settings.vocabulary), transcripts=transcripts_fingerprint(settings.train_dir))
    atomic_io.write(Path(settings.statistics), "".join(lines))
    train_data = data_fingerprint(Path(settings.train_dir))
    record_inputs(Path(settings.statistics), train_data=train_data)
    return f"{settings.vocabulary}: {len(vocabulary)} tokens; {settings.statistics}: {', '.join(counts)}"
