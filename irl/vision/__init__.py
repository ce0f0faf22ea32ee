"""Image classification: the wide residual network, tested under noise, attacks and corruptions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Mapping

from irl.reporting.evaluation import collect, read_counts
from irl.training.modality import Evaluation, MetricSpec, Modality, lazily


class Vision(Modality):
    """A condition is a name such as `in` or `fgsm_0.2`; what it means is in the settings of the test, a YAML file."""

    name = "vision"
    metric = MetricSpec("test error", "%", "images")
    paired_keys = Modality.paired_keys | {"attack", "unlabelled"}
    Config = lazily("config", "VisionConfig")
    task = lazily("task", "VisionTask")
    add_arguments = lazily("evaluate")
    prepare = lazily("prepare")
    validate = lazily("prepare")
    planned = lazily("evaluate")
    train_data = lazily("prepare")
    test_data = lazily("evaluate")
    evaluate = lazily("evaluate")
    layer_pairs = lazily("analysis")
    pairs_fingerprint = lazily("analysis")
    table_sections = lazily("table_sections")
    heading = lazily("table_sections")

    def read_evaluation(self, run: Path, args: argparse.Namespace) -> Evaluation:
        folder, data = run / "evaluate" / args.data.stem, self.test_data(args.conditions, args)
        return collect(run, read_counts(folder, data, also=["kinds"]))

    def describe(self, settings: Mapping[str, Any]) -> str:
        given = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if value != "")
        return f"Test settings: {given}."


modality = Vision()
