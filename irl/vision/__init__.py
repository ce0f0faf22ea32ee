"""Image classification: the wide residual network, tested under noise, attacks and corruptions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from irl.training.distributed import Shard
from irl.training.layer_stats import LayerPair
from irl.training.modality import Evaluation, MetricSpec, Modality, Planned
from irl.training.task import Task


class Vision(Modality):
    """A condition is a name such as `in` or `fgsm_0.2`; what it means is in the settings of the test, a YAML file."""

    name = "vision"
    metric = MetricSpec("test error", "%", "images")

    @property
    def Config(self) -> type:
        from irl.vision.config import VisionConfig

        return VisionConfig

    def task(self, config: Any, shard: Shard) -> Task:
        from irl.vision.task import VisionTask

        return VisionTask(config, shard)

    def add_arguments(self, command: str, parser: argparse.ArgumentParser) -> None:
        from irl.vision import evaluate

        evaluate.add_arguments(command, parser)

    def prepare(self, config: Any, check: Sequence[str]) -> str:
        from irl.vision.prepare import prepare

        return prepare(config, check)

    def validate(self, args: argparse.Namespace) -> Iterator[str]:
        from irl.vision.prepare import validate

        return validate(args)

    def planned(self, args: argparse.Namespace) -> Planned:
        from irl.vision.evaluate import planned

        return planned(args)

    def train_data(self, config: Any) -> str:
        from irl.data import images

        path = Path(config.train_set)
        return images.read(path).digest() if path.exists() else ""

    def evaluate(self, args: argparse.Namespace) -> None:
        from irl.vision.evaluate import evaluate

        evaluate(args)

    def read_evaluation(self, run: Path, args: argparse.Namespace) -> Evaluation:
        from irl.reporting.evaluation import collect, read_counts

        return collect(run, read_counts(run / "evaluate" / args.data.stem, args.conditions))

    def layer_pairs(self, run: Path, args: argparse.Namespace) -> Iterator[LayerPair]:
        from irl.vision.analysis import layer_pairs

        return layer_pairs(run, args)

    def pairs_fingerprint(self, args: argparse.Namespace) -> dict[str, Any]:
        from irl.vision.analysis import fingerprint

        return fingerprint(args)

    def describe(self, settings: Mapping[str, Any]) -> str:
        given = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if value != "")
        return f"Test settings: {given}."

    def table_sections(self, table: Any) -> list[str]:
        from irl.vision.table_sections import masking

        return masking(table)

    def heading(self, condition: str) -> str:
        from irl.vision.table_sections import heading

        return heading(condition)


modality = Vision()
