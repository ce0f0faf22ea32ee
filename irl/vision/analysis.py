"""Clean images beside their noisy copies, for the analysis of layers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator

import torch

from irl.core import config
from irl.core.fingerprint import file_fingerprint
from irl.data import images
from irl.noise.image import ImageNoise
from irl.objective.smoothness import lambda_r
from irl.training.layer_stats import LayerPair, batches
from irl.vision.classifier import Classifier, test_keys
from irl.vision.conditions import read_settings


def pairs_fingerprint(args: argparse.Namespace) -> dict[str, Any]:
    """The test set, the noise on it, and the device."""
    noise = read_settings(args.settings, args.test).noise(str(args.noisy))
    return {"clean": file_fingerprint(args.clean), "noise": config.to_dict(noise), "device": args.device}


def layer_pairs(run: Path, args: argparse.Namespace, batch_size: int = 100) -> Iterator[LayerPair]:
    """A classifier on a test set and on the same images under a condition on colours."""
    condition, device = str(args.noisy), args.device
    classifier, data = Classifier(run / "checkpoint.pt", device), images.read(args.clean)
    noise = ImageNoise(read_settings(args.settings, args.test).noise(condition), classifier.statistics.directions)
    generator = torch.Generator(device).manual_seed(0)
    for rows in batches(len(data), batch_size):
        x = classifier.inputs(data.images[rows])
        noisy = noise.apply(x, noise.draw(test_keys(data, rows, condition, device), x.shape[2:]))
        squares = lambda_r(classifier.model, classifier.statistics.normalise(x), generator=generator)
        yield LayerPair(classifier.outputs(x), classifier.outputs(noisy), squares)
