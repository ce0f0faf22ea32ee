"""Speech recognition: the encoder-decoder on Kaldi data directories, tested under acoustic conditions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from irl.training.distributed import Shard
from irl.training.layer_stats import LayerPair
from irl.training.modality import Evaluation, MetricSpec, Modality, Planned
from irl.training.task import Task


class Speech(Modality):
    """A condition is NAME=DATA_DIR, a noisy copy of a test set."""

    name = "speech"
    metric = MetricSpec(
        "character error rate", "%", "utterances", True, ("none", "additive", "mean over noisy conditions")
    )

    @property
    def Config(self) -> type:
        from irl.speech.config import SpeechConfig

        return SpeechConfig

    def task(self, config: Any, shard: Shard) -> Task:
        from irl.speech.task import SpeechTask

        return SpeechTask(config, shard)

    def add_arguments(self, command: str, parser: argparse.ArgumentParser) -> None:
        from irl.speech import evaluate, plan, prepare, scoring

        if command == "validate":
            prepare.add_arguments(parser)
        if command == "evaluate":
            evaluate.add_arguments(parser)
        if command == "plan":
            plan.add_arguments(parser)
        if command == "score":
            scoring.add_arguments(parser)

    def prepare(self, config: Any, check: Sequence[str]) -> str:
        from irl.speech.prepare import prepare

        return prepare(config, check)

    def validate(self, args: argparse.Namespace) -> Iterator[str]:
        from irl.speech.prepare import validate

        return validate(args)

    def planned(self, args: argparse.Namespace) -> Planned:
        from irl.speech.plan import planned

        return planned(args)

    def same_evaluation(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        from irl.speech.scoring import evaluation_key

        return evaluation_key(a) == evaluation_key(b)

    def comparable(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        from irl.speech.search_options import decoding

        return decoding(settings, tuned=False)

    def evaluate(self, args: argparse.Namespace) -> None:
        from irl.speech.evaluate import evaluate

        evaluate(args)

    def read_evaluation(self, run: Path, args: argparse.Namespace) -> Evaluation:
        from irl.speech.scoring import read_evaluation

        return read_evaluation(run, args)

    def layer_pairs(self, run: Path, args: argparse.Namespace) -> Iterator[LayerPair]:
        from irl.speech.analysis import layer_pairs

        return layer_pairs(run, args.clean, args.noisy)

    def pairs_fingerprint(self, args: argparse.Namespace) -> dict[str, Any]:
        from irl.speech.evaluate import data_fingerprint

        return {"clean": data_fingerprint(args.clean), "noisy": data_fingerprint(args.noisy)}

    def describe(self, settings: Mapping[str, Any]) -> str:
        from irl.speech.search_options import describe

        return describe(settings)

    def example(self, table: Any, exp: Path, data: Path, condition: str) -> str:
        from irl.speech.scoring import example

        return example(table, exp, data, condition)

    def fingerprint(self, content: dict[str, Any]) -> dict[str, Any]:
        """Rooms count only where a kind of noise needs them."""
        noise = content.get("noise", {})
        if "rir" not in noise.get("kinds", ()):
            noise = {key: value for key, value in noise.items() if key not in ("rirs", "rirs_part")}
        return {**content, "noise": noise}


modality = Speech()
