"""Noise. The names below are one call each, for any model's data; the modules hold the noises of the recipes.

They are imported on first use: banks need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irl.data.pairs import collate_pairs, paired
    from irl.noise.functions import NoiseFunction, one_of
    from irl.noise.image_functions import fgsm, image_noise, pgd
    from irl.noise.wave_functions import additive, babble, reverb, telephone, volume
    from irl.noise.word_functions import word_noise

_HOMES = {
    "irl.noise.wave_functions": ("additive", "babble", "reverb", "telephone", "volume"),
    "irl.noise.image_functions": ("fgsm", "image_noise", "pgd"),
    "irl.noise.word_functions": ("word_noise",),
    "irl.noise.functions": ("NoiseFunction", "one_of"),
    "irl.data.pairs": ("collate_pairs", "paired"),
}
__all__ = [
    "NoiseFunction", "additive", "babble", "collate_pairs", "fgsm", "image_noise", "one_of", "paired", "pgd", "reverb",
    "telephone", "volume", "word_noise",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'irl.noise' has no attribute {name!r}")
