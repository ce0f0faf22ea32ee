"""Word language modelling: the LSTM under blanked and replaced input words, judged by its perplexity."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from irl.training.distributed import Shard
from irl.training.layer_stats import LayerPair
from irl.training.modality import Evaluation, MetricSpec, Modality, Planned
from irl.training.task import Task


class Language(Modality):
    """A condition is NAME=TEXT, a text to be read."""

    name = "language"
    # The "errors" of a line are the negative log likelihood of its words in nats.
    metric = MetricSpec("perplexity of a word", "", "lines", show=np.exp)

    @property
    def Config(self) -> type:
        from irl.language.config import LanguageConfig

        return LanguageConfig

    def task(self, config: Any, shard: Shard) -> Task:
        from irl.language.task import LanguageTask

        return LanguageTask(config, shard)

    def add_arguments(self, command: str, parser: argparse.ArgumentParser) -> None:
        if command == "validate":
            parser.add_argument("--tokens", type=int, nargs="*", default=[], help="expected numbers of tokens")
        if command == "evaluate":
            parser.add_argument("--device", default="")

    def prepare(self, config: Any, check: Sequence[str]) -> str:
        from irl.language.prepare import prepare

        return prepare(config, check)

    def validate(self, args: argparse.Namespace) -> Iterator[str]:
        from irl.language.prepare import validate

        return validate(args)

    def planned(self, args: argparse.Namespace) -> Planned:
        device = ["--device", args.device] if args.device else []
        # By words that every method knows: the blank is a symbol that some have never seen.
        analyse = ["--clean", args.conditions[0].rpartition("=")[2], "--noisy", "unigram", *device]
        return Planned(args.conditions, {"decode": {}}, device, analyse=analyse)

    def evaluate(self, args: argparse.Namespace) -> None:
        from irl.language.evaluate import evaluate

        evaluate(args)

    def read_evaluation(self, run: Path, args: argparse.Namespace) -> Evaluation:
        from irl.reporting.evaluation import collect, read_counts

        return collect(run, read_counts(run / "evaluate", [item.partition("=")[0] for item in args.conditions]))

    def layer_pairs(self, run: Path, args: argparse.Namespace) -> Iterator[LayerPair]:
        from irl.language.analysis import layer_pairs

        return layer_pairs(run, args.clean, str(args.noisy), args.device)

    def pairs_fingerprint(self, args: argparse.Namespace) -> dict[str, Any]:
        from irl.core.fingerprint import file_fingerprint

        return {"clean": file_fingerprint(args.clean), "noisy": str(args.noisy)}

    def describe(self, settings: Mapping[str, Any]) -> str:
        return "Texts are read as one row, and every word but the first is predicted."


modality = Language()
