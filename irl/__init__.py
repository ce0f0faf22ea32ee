"""Invariant representation learning: the loss, noise, models and recipes.

The public names are imported on first use: commands that need no torch do not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from irl.core.version import __version__

if TYPE_CHECKING:
    from irl.core.output import Output
    from irl.models.ema import EMA
    from irl.models.tap import tap
    from irl.objective import KL, L2, PRESETS, Cosine, IRLLoss, Terms

_HOMES = {
    "irl.models.tap": ("tap",),
    "irl.models.ema": ("EMA",),
    "irl.objective": ("Cosine", "IRLLoss", "KL", "L2", "PRESETS", "Terms"),
    "irl.core.output": ("Output",),
}
__all__ = ["Cosine", "EMA", "IRLLoss", "KL", "L2", "Output", "PRESETS", "Terms", "__version__", "tap"]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'irl' has no attribute {name!r}")
