"""A trained image classifier, and its errors under test conditions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import numpy as np
import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.fingerprint import check_inputs
from irl.core.logging import progress
from irl.core.output import Output
from irl.core.rng import Keys
from irl.data.images import Images
from irl.noise import corruptions
from irl.noise.adversarial import Attack
from irl.noise.image import ImageNoise
from irl.training import checkpoint
from irl.training.checkpoint import load_model
from irl.vision.conditions import EvaluationConfig, check_classes
from irl.vision.config import VisionConfig
from irl.vision.data import Statistics
from irl.vision.task import build_model


class Classifier:
    """The model of a checkpoint, on a device, in eval mode."""

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        state, self.config, weights = load_model(path, "vision", VisionConfig)
        self.classes: list[str] = state["classes"]
        self.statistics = Statistics(*(torch.tensor(state[name]) for name in Statistics._fields))
        self.model = build_model(self.config, len(self.classes))
        checkpoint.load_weights(self.model, weights, path)
        self.device = torch.device(device)
        self.model.to(self.device).eval()

    def inputs(self, images: np.ndarray) -> Tensor:
        """uint8 (N, H, W, 3) -> (N, 3, H, W) on the scale 0-255, on the device."""
        return torch.from_numpy(np.array(images)).to(self.device).movedim(3, 1).float()

    def outputs(self, x: Tensor) -> Output:
        """Of images on the scale 0-255."""
        found: Output = self.model(self.statistics.normalise(x))
        return found


def corrupted_folder(settings: EvaluationConfig, made: Path | None) -> Path | None:
    """The corruptions that the settings name, or those that stage 2 has made."""
    return Path(settings.corruptions) if settings.corruptions else made


def data_fingerprint(own: str, condition: str, folder: Path) -> str:
    """Of the images that a condition is tested on. own: fingerprint of the test set. Raises UserError for corruptions
    of another test set."""
    if condition != "corruption":
        return own
    check_inputs(folder, "run stage 2 again", test_set=own)
    return f"{own}+{corruptions.digest(folder)}"


class Errors(NamedTuple):
    """wrong, tried: int64 (N,), how often each image was wrong and was tried. by_view: int64, the images that were
    wrong in each view of a condition; a corruption has a view a severity, other conditions have one."""

    wrong: np.ndarray
    tried: np.ndarray
    by_view: np.ndarray


@dataclass
class Test:
    """A classifier before a test set."""

    classifier: Classifier
    images: Images
    settings: EvaluationConfig
    folder: Path  # of corruptions

    def __post_init__(self) -> None:
        if self.images.classes != self.classifier.classes:
            raise UserError(f"the test set has classes {', '.join(self.images.classes)}, the model "
                            f"{', '.join(self.classifier.classes)}")  # fmt: skip

    def errors(self, condition: str, batch_size: int) -> Errors:
        wrong = np.zeros(len(self.images), np.int64)
        tried = np.zeros_like(wrong)
        batches = list(self._batches(condition, batch_size))
        by_view = np.zeros(len(batches[0][1]), np.int64)
        for rows, views in progress(batches, condition, unit="batch"):
            labels = torch.from_numpy(self.images.labels[rows]).to(self.classifier.device)
            for number, view in enumerate(views):
                with torch.no_grad():
                    logits = self.classifier.model(view(labels)).logits
                if not torch.isfinite(logits).all():
                    raise UserError(f"{condition}: the model's outputs are not finite")
                found = (logits.argmax(1) != labels).cpu().numpy()
                wrong[rows] += found
                tried[rows] += 1
                by_view[number] += found.sum()
        return Errors(wrong, tried, by_view)

    def _batches(self, condition: str, size: int) -> Iterator[tuple[slice, list[Callable[[Tensor], Tensor]]]]:
        """Slices of the test set, each with functions from its labels to normalised images."""
        c, s = self.classifier, self.settings
        noises = s.noises()
        first = s.slow_images or len(self.images)
        if condition == "corruption":
            sets = corruptions.read(self.folder, self.images.images, self.images.labels)
            corrupted = lambda array, y: c.statistics.normalise(c.inputs(array))  # noqa: E731
            for rows in _slices(min(first, len(self.images)), size):
                levels = [array[level, rows] for array in sets.values() for level in range(corruptions.SEVERITIES)]
                yield rows, [functools.partial(corrupted, level) for level in levels]
            return
        attack = None if condition in noises else s.attack(condition)
        slow = condition not in noises and (attack is None or attack.kind not in ("fgsm", "random"))
        made = Attack(attack, c.statistics.mean, c.statistics.std) if attack else None
        check_classes(condition, c.classes)

        def view(rows: slice, y: Tensor) -> Tensor:
            x, keys = c.inputs(self.images.images[rows]), test_keys(self.images, rows, condition, c.device)
            if condition in noises:
                noise = ImageNoise(noises[condition], c.statistics.directions)
                return c.statistics.normalise(noise.apply(x, noise.draw(keys)))
            if made is None:
                return self._autoattack(condition, x, y)
            return made.apply(c.statistics.normalise(x), y, c.model, keys)

        for rows in _slices(min(first, len(self.images)) if slow else len(self.images), size):
            yield rows, [functools.partial(view, rows)]

    def _autoattack(self, condition: str, x: Tensor, y: Tensor) -> Tensor:
        """By the package of that name, which measures eps on pixels in [0, 1]."""
        from autoattack import AutoAttack

        c, norm = self.classifier, {"linf": "Linf", "l2": "L2"}[self.settings.norm]
        logits = lambda x: c.outputs(x * 255).logits  # noqa: E731
        eps = float(condition.rpartition("_")[2]) / 255
        adversary = AutoAttack(logits, norm=norm, eps=eps, device=str(c.device), seed=0, verbose=False)
        return c.statistics.normalise(255 * adversary.run_standard_evaluation(x / 255, y, bs=len(x)))


def test_keys(images: Images, rows: slice, condition: str, device: torch.device | str = "cpu") -> Keys:
    """The draws of a test condition: the same for every model."""
    return Keys(torch.from_numpy(images.numbers[rows]).to(device), 0, f"test/{condition}")


def _slices(count: int, size: int) -> Iterator[slice]:
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))
