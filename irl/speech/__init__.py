"""Speech recognition: the encoder-decoder on Kaldi data directories, tested under acoustic conditions."""

from __future__ import annotations

import argparse
import importlib
import re
from typing import Any

from irl.training.modality import MetricSpec, Modality, lazily


class Speech(Modality):
    """A condition is NAME=DATA_DIR, a noisy copy of a test set."""

    name = "speech"
    metric = MetricSpec(
        "character error rate",
        "%",
        "utterances",
        averaged=True,
        tested=("none", "additive", "mean over noisy conditions"),
    )
    Config = lazily("config", "SpeechConfig")
    task = lazily("task", "SpeechTask")
    prepare = lazily("prepare")
    validate = lazily("validate")
    planned = lazily("plan")
    train_data = lazily("fingerprint")
    test_data = lazily("fingerprint")
    evaluate = lazily("evaluate")
    read_evaluation = lazily("scoring")
    same_evaluation = lazily("scoring")
    comparable = lazily("search_options")
    describe = lazily("search_options")
    layer_pairs = lazily("analysis")
    pairs_fingerprint = lazily("analysis")
    example = lazily("scoring")

    def add_arguments(self, command: str, parser: argparse.ArgumentParser) -> None:
        modules = {"validate": "validate", "plan": "plan", "evaluate": "evaluate", "score": "scoring"}
        if command in modules:
            importlib.import_module(f"irl.speech.{modules[command]}").add_arguments(parser)

    def heading(self, condition: str) -> str:
        return re.sub(r"^(gain|dbfs)(?=[+-])", "", condition) + {"gain": " dB", "dbfs": " dBFS"}.get(condition[:4], "")

    def scale(self, condition: str) -> tuple[str, float] | None:
        label = {"gain": "change of level in dB", "dbfs": "level in dBFS"}.get(condition[:4])
        return (label, float(condition[4:])) if label else None

    def table_sections(self, table: Any) -> list[str]:
        copies = max(line.get("test_copies", 1) for line in table.lines)
        return ["", f"Each noisy condition is heard {copies} times, with other draws."] if copies > 1 else []

    def fingerprint(self, content: dict[str, Any]) -> dict[str, Any]:
        """Rooms count only where a kind of noise needs them."""
        noise = content.get("noise", {})
        if "rir" not in noise.get("kinds", ()):
            noise = {key: value for key, value in noise.items() if key not in ("rirs", "rirs_part", "rir_channel")}
        return {**content, "noise": noise}


modality = Speech()
