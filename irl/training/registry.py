"""Modalities by the name of their task, and the configuration of an experiment from a file or from a checkpoint."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from irl.core import config
from irl.core.errors import UserError
from irl.training.modality import Modality

# The one place that lists them. Each module exports its object as `modality`.
MODALITIES = {
    "speech": "irl.speech",
    "vision": "irl.vision",
    "language": "irl.language",
    "character_lm": "irl.speech.character_lm",
}


def modality(task: object, where: str) -> Modality:
    """The modality of a task. Raises UserError, with `where`, for a name that is none."""
    if task not in MODALITIES:
        raise UserError(f"{where}: task: expected one of {', '.join(MODALITIES)}, found {task!r}")
    found: Modality = importlib.import_module(MODALITIES[str(task)]).modality
    return found


def read_config(path: Path, overrides: list[str]) -> Any:
    """The configuration in a YAML file with key=value overrides."""
    parts = config.sources(path, overrides)
    merged = {key: value for _, content in parts for key, value in content.items()}
    return config.resolve(modality(merged.get("task"), str(path)).Config, parts)


def saved_config(state: dict[str, Any], path: Path) -> Any:
    """The configuration in a checkpoint. Settings that are newer than the checkpoint have their defaults."""
    content = state["config"]
    return config.from_dict(modality(content.get("task"), str(path)).Config, content, str(path))
