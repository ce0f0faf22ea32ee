"""The tasks by name, and the configuration of an experiment from a file or from a checkpoint."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from irl.core import config
from irl.core.errors import UserError

TASKS = {
    "speech": ("irl.speech.task", "SpeechConfig", "SpeechTask"),
    "vision": ("irl.vision.task", "VisionConfig", "VisionTask"),
    "language": ("irl.language.task", "LanguageConfig", "LanguageTask"),
    "character_lm": ("irl.speech.character_lm", "CharacterLMConfig", "CharacterLMTask"),
}


def task_classes(name: object, where: str) -> tuple[type, type]:
    """(configuration, task) of a task; its libraries are imported only here."""
    if name not in TASKS:
        raise UserError(f"{where}: task: expected one of {', '.join(TASKS)}, found {name!r}")
    module, *classes = TASKS[str(name)]
    found = [getattr(importlib.import_module(module), c) for c in classes]
    return found[0], found[1]


def read_config(path: Path, overrides: list[str]) -> Any:
    """Of a YAML file with key=value overrides."""
    parts = config.sources(path, overrides)
    merged = {key: value for _, content in parts for key, value in content.items()}
    return config.resolve(task_classes(merged.get("task", "speech"), str(path))[0], parts)


def saved_config(state: dict[str, Any], path: Path) -> Any:
    """Of a checkpoint. Settings that are newer than the checkpoint have their defaults."""
    content = state["config"]
    return config.from_dict(task_classes(content.get("task"), str(path))[0], content, str(path))
