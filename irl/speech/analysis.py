"""Clean utterances beside their noisy copies, for the analysis of layers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator

import torch

from irl.core.errors import UserError
from irl.data.features import pad_waves
from irl.data.kaldi import read_data_dir, read_wave
from irl.objective.smoothness import lambda_r
from irl.speech.fingerprint import data_fingerprint, of_test_set
from irl.speech.recogniser import Recogniser
from irl.speech.search_options import SearchOptions
from irl.training.layer_stats import LayerPair, batches


def pairs_fingerprint(args: argparse.Namespace) -> dict[str, Any]:
    return {"clean": data_fingerprint(args.clean), "noisy": of_test_set(args.noisy)}


def layer_pairs(run: Path, args: argparse.Namespace, batch_size: int = 8) -> Iterator[LayerPair]:
    """A recogniser on a data directory and its noisy copy, the reference fed to the decoder."""
    recogniser = Recogniser(run / "checkpoint.pt", SearchOptions("attention"))
    pairs = [read_data_dir(path) for path in (args.clean, args.noisy)]
    if [u.id for u in pairs[0]] != [u.id for u in pairs[1]]:
        raise UserError(f"{args.noisy}: expected the same utterances as {args.clean}, found different ones")
    vocabulary, features, generator = recogniser.vocabulary, recogniser.features, torch.Generator().manual_seed(0)
    for rows in batches(len(pairs[0]), batch_size):
        targets = [
            torch.tensor([vocabulary.eos, *vocabulary.encode(u.text or "", f"{args.clean}: {u.id}")])
            for u in pairs[0][rows]
        ]
        y = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
        y_lens = torch.tensor([len(t) for t in targets])
        inputs = []
        for side in pairs:
            x, x_lens = features.batch(*pad_waves([read_wave(u, features.config.rate) for u in side[rows]]))
            inputs.append((x, x_lens, y, y_lens))
        views = [recogniser.model(*each) for each in inputs]
        yield LayerPair(views[0], views[1], lambda_r(recogniser.model, inputs[0], generator=generator))
