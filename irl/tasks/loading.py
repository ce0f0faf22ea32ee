"""Models from checkpoints, for decoding and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from irl import checkpoint, config
from irl.errors import UserError


def load_model(path: Path, task: str, config_class: type) -> tuple[dict[str, Any], Any, dict[str, Tensor]]:
    """A checkpoint, its configuration, and the model's weights: the mean of the best ones where there is one."""
    state = checkpoint.load(path)
    if state["config"].get("task") != task:
        raise UserError(f"{path}: a checkpoint of task {state['config'].get('task')!r}, expected {task!r}")
    weights = state.get("averaged", state["model"])
    # Beside the model a step may hold what training alone needs.
    weights = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    return state, config.from_dict(config_class, state["config"], str(path)), weights
