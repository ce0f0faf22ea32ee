"""Colour statistics of a training set; checking sets of images."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Iterator, Sequence

import torch

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.fingerprint import content_fingerprint, record_inputs, remembered_of_file
from irl.core.logging import logger
from irl.data import images
from irl.noise import corruptions
from irl.vision.conditions import check_classes
from irl.vision.config import VisionConfig
from irl.vision.data import color_sums


def set_fingerprint(path: Path) -> str:
    """Of the images of a set, empty where there is none."""
    return remembered_of_file(path, lambda: images.read(path).digest())


def train_data(config: VisionConfig) -> dict[str, str]:
    dev = set_fingerprint(Path(config.dev_set)) if config.train.average else ""
    return {"train_data": set_fingerprint(Path(config.train_set)), "dev_data": dev}


def validate(args: argparse.Namespace) -> Iterator[str]:
    """Count the images of each set by class, and the images that also occur in an earlier set. The last set must suit
    args.conditions and args.corruptions."""
    seen: set[str] = set()
    for path in args.paths:
        content = images.read(path)
        pixels = [content_fingerprint([image.tobytes()]) for image in content.images]
        height, width = content.images.shape[1:3]
        sizes = Counter(content.labels.tolist())
        each = [sizes[label] for label in range(len(content.classes))]
        for name in [name for name, size in zip(content.classes, each) if not size]:
            logger.warning(f"{path}: no image of class {name}")
        known = sum(image in seen for image in pixels)
        yield (
            f"{path}: {len(content)} images of {width}x{height}, {len(content.classes)} classes of {min(each)} to "
            f"{max(each)} images, {known} images of the sets before it"
        )
        seen.update(pixels)
    for condition in args.conditions:
        check_classes(condition, content.classes)
    if args.corruptions:
        corruptions.read(args.corruptions, content.images, content.labels)


def prepare(settings: VisionConfig, check: Sequence[str], methods: Sequence[VisionConfig] = ()) -> str:
    """Write the sums of the training set's colours. check: test sets that must have its classes and its size."""
    train = images.read(Path(settings.train_set))
    for path in [settings.dev_set, *check]:
        other = images.read(Path(path))
        for what, found, expected in (
            ("classes", other.classes, train.classes),
            ("images of size", other.images.shape[1:3], train.images.shape[1:3]),
        ):
            if found != expected:
                raise UserError(f"{path}: {what} {found}, {settings.train_set} has {expected}")
    pixels, total, products = color_sums(torch.from_numpy(train.images)).sums()
    sums = {"pixels": pixels, "sum": total, "products": products}
    atomic_io.write(Path(settings.statistics), json.dumps(sums) + "\n")
    record_inputs(Path(settings.statistics), train_set=train.digest())
    return f"{settings.statistics}: {pixels} pixels of {len(train)} images"
