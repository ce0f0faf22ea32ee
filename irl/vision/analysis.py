"""Clean images beside their noisy copies, for the analysis of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import torch

from irl.objective.smoothness import lambda_r
from irl.reporting.pairs import LayerPair, batches


def of_images(
    run: Path, clean: Path, condition: str, settings: Any, device: str, batch_size: int = 100
) -> Iterator[LayerPair]:
    """A classifier on a test set and its noisy copy."""
    from irl.data import images
    from irl.noise.image import ImageNoise
    from irl.vision.classifier import Classifier, test_keys

    classifier, data = Classifier(run / "checkpoint.pt", device), images.read(clean)
    noise = ImageNoise(settings.noise(condition), classifier.statistics.directions)
    generator = torch.Generator(device).manual_seed(0)
    for rows in batches(len(data), batch_size):
        x = classifier.inputs(data.images[rows])
        noisy = noise.apply(x, noise.draw(test_keys(data, rows, condition, device), x.shape[2:]))
        squares = lambda_r(classifier.model, classifier.statistics.normalise(x), generator=generator)
        yield LayerPair(classifier.outputs(x), classifier.outputs(noisy), squares)
