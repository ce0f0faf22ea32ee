"""Colour statistics of a training set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from irl.core import atomic_io
from irl.core.errors import UserError


def prepare_vision(settings: Any, check: list[str]) -> str:
    from irl.data.images import read
    from irl.noise.image import color_sums

    train = read(Path(settings.train_set))
    for path in [settings.dev_set, *check]:
        other = read(Path(path))
        for what, found, expected in (
            ("classes", other.classes, train.classes),
            ("images of size", other.images.shape[1:3], train.images.shape[1:3]),
        ):
            if found != expected:
                raise UserError(f"{path}: {what} {found}, {settings.train_set} has {expected}")
    pixels, total, products = color_sums(torch.from_numpy(train.images))
    sums = {"pixels": pixels, "sum": total.tolist(), "products": products.tolist()}
    atomic_io.write(Path(settings.statistics), json.dumps(sums) + "\n")
    return f"{settings.statistics}: {pixels} pixels of {len(train)} images"
