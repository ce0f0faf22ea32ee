"""Word language modelling: the LSTM under blanked and replaced input words, judged by its perplexity."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from irl.reporting.evaluation import collect, read_counts
from irl.training.modality import Evaluation, MetricSpec, Modality, Planned, lazily


def perplexity_of(nats: Any) -> Any:
    """exp of nats a word; infinite where it is larger than all numbers."""
    with np.errstate(over="ignore"):
        return np.exp(nats)


class Language(Modality):
    """A condition is NAME=TEXT, a text to be read."""

    name = "language"
    # The "errors" of a line are the negative log likelihood of its words in nats.
    metric = MetricSpec("perplexity of a word", "", "lines", show=perplexity_of)

    Config = lazily("config", "LanguageConfig")
    task = lazily("task", "LanguageTask")
    prepare = lazily("prepare")
    validate = lazily("prepare")
    train_data = lazily("prepare")
    test_data = lazily("prepare")
    evaluate = lazily("evaluate")
    layer_pairs = lazily("analysis")
    pairs_fingerprint = lazily("analysis")

    def add_arguments(self, command: str, parser: argparse.ArgumentParser) -> None:
        if command == "validate":
            parser.add_argument("--tokens", type=int, nargs="*", default=[], help="expected numbers of tokens")
        if command == "evaluate":
            parser.add_argument("--device", default="", help="cpu or cuda; empty: a GPU where there is one")

    def planned(self, args: argparse.Namespace) -> Planned:
        device = ["--device", args.device] if args.device else []
        # By words that every method knows: the blank is a symbol that some have never seen.
        analyse = ["--clean", args.conditions[0].rpartition("=")[2], "--noisy", "unigram", *device]
        return Planned(args.conditions, {"decode": {}}, device, analyse=analyse)

    def read_evaluation(self, run: Path, args: argparse.Namespace) -> Evaluation:
        return collect(run, read_counts(run / "evaluate", self.test_data(args.conditions)))

    def describe(self, settings: Mapping[str, Any]) -> str:
        return (
            "Texts are read as one row, and every word but the first is predicted. "
            "A line of more than 1,000 words counts as several of up to 1,000."
        )


modality = Language()
