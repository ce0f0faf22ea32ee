"""Checkpoints: plain tensors and values, written whole or not at all, read without running anything from the file."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irl.core import atomic_io, config
from irl.core.errors import UserError
from irl.core.logging import logger

# Names in checkpoints of earlier versions, and values of objective.pairs in their configurations.
OLD_NAMES = {"carried": "hidden_state", "slowed": "lr_scale"}
OLD_PAIRS = {"others": "in_batch"}


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one lies."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; the one before it is kept as `previous`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_io.write(path, buffer.getvalue(), keep=previous(path))


def load_last(path: Path) -> dict[str, Any] | None:
    """The last checkpoint, or the one before it, with a warning, where the last one is damaged; None if there is none.
    Raises UserError where both are damaged."""
    if not path.exists() and not previous(path).exists():
        return None
    try:
        return load(path)
    except UserError as error:
        if not previous(path).exists():
            raise
        state = load(previous(path))
        # The damaged one must not take the place of the good one when the next is saved.
        os.replace(previous(path), path)
        logger.warning(f"warning: {error}; going on from {previous(path)}, at update {state.get('step')}")
        return state


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises UserError if it is missing, truncated or not one of ours."""
    try:
        # The sums of the records, which torch writes and does not look at.
        with zipfile.ZipFile(path) as records:
            if records.testzip() is not None:
                raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception:  # torch raises many kinds for damaged files and for what weights_only refuses
        raise UserError(f"{path}: truncated or damaged, or not a checkpoint: it cannot be read") from None
    if not isinstance(state, dict) or not all(isinstance(state.get(k), dict) for k in ("model", "config")):
        raise UserError(f"{path}: not a checkpoint of this package: it has no model and config")
    return with_new_names(state)


def with_new_names(state: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint with its old names replaced."""
    objective = state["config"].get("objective", {})
    if objective.get("pairs") in OLD_PAIRS:
        objective["pairs"] = OLD_PAIRS[objective["pairs"]]
    return {OLD_NAMES.get(name, name): value for name, value in state.items()}


def load_weights(module: torch.nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Strictly. Raises UserError naming the first tensor that does not fit."""
    own = module.state_dict()
    for name in own.keys() | weights.keys():
        if name not in weights or name not in own:
            holder = "the checkpoint" if name not in weights else "the model"
            raise UserError(f"{path}: a checkpoint of another model: {name} is not in {holder}")
        if own[name].shape != weights[name].shape:
            raise UserError(
                f"{path}: a checkpoint of another model: {name} has shape {list(weights[name].shape)}, "
                f"expected {list(own[name].shape)}"
            )
    module.load_state_dict(weights)


def load_model(path: Path, task: str, config_class: type) -> tuple[dict[str, Any], Any, dict[str, Tensor]]:
    """A checkpoint, its configuration, and the model's weights: the mean of the best ones where there is one."""
    state = load(path)
    if state["config"].get("task") != task:
        raise UserError(f"{path}: a checkpoint of task {state['config'].get('task')!r}, expected {task!r}")
    weights = state.get("averaged", state["model"])
    # Beside the model a step may hold what training alone needs.
    weights = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    return state, config.from_dict(config_class, state["config"], str(path)), weights
