"""Batches of images and their views, made on the training device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.rng import Keys
from irl.core.text_files import read_text
from irl.data.augment import Crops
from irl.data.images import Images, balanced, read
from irl.noise.image import ImageNoise, lighting_of
from irl.training.distributed import BatchTotals, Shard
from irl.training.running_covariance import RunningCovariance
from irl.training.task import BatchSpec
from irl.vision.config import VisionConfig


class Statistics(NamedTuple):
    """Of the RGB values of the training set, on the scale 0-255: mean (3,), std (3,), directions of lighting (3, 3)."""

    mean: Tensor
    std: Tensor
    directions: Tensor

    @classmethod
    def of(cls, colors: RunningCovariance) -> Statistics:
        return cls(colors.mean.float(), colors.std.float(), lighting_of(colors.covariance))

    @classmethod
    def read(cls, path: Path) -> Statistics:
        try:
            sums = json.loads(read_text(path, "no such statistics; run stage 3 first"))
            colors = RunningCovariance.from_sums(int(sums["pixels"]), sums["sum"], sums["products"])
            if colors.products.shape != (3, 3):
                raise ValueError("expected the products of three colours")
            return cls.of(colors)
        except (ValueError, KeyError, TypeError, OverflowError, RuntimeError, RecursionError):
            raise UserError(f"{path}: damaged statistics of images; run stage 3 again") from None

    def normalise(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) on the scale 0-255 -> (x - mean) / std."""
        scale = (1 / self.std).to(x.device).view(3, 1, 1)
        return torch.addcmul((-self.mean.to(x.device)).view(3, 1, 1) * scale, x, scale)


def color_sums(images: Tensor, chunk: int = 1000) -> RunningCovariance:
    """Sums about zero of the RGB values of uint8 (N, H, W, 3)."""
    colors = RunningCovariance(centred=False)
    for part in images.split(chunk):
        colors.add(part.reshape(-1, 3))
    return colors


class Batch(NamedTuple):
    """Normalised views (B, 3, H, W) of the same images. clean is None where no term looks at it; noisy is empty where
    copies are adversarial, which only the model can make. y: labels (L,) of the first L <= B images, which enter the
    task loss. totals: the size of the global batch, with its labels."""

    ids: Tensor
    clean: Tensor | None
    noisy: list[Tensor]
    y: Tensor
    totals: BatchTotals
    attacked: int = 0


class VisionData:
    """A set on a device, and its batches. part: "train" or "dev"; dev is neither cropped nor flipped nor shuffled.
    shard: of this process in every batch; none is empty, for a batch has at least one labelled image a process."""

    def __init__(
        self, path: str, config: VisionConfig, statistics: Statistics, part: str, shard: Shard = Shard()
    ) -> None:
        self.config, self.statistics, self.stream, self.shard = config, statistics, f"noise/{part}", shard
        training = part == "train"
        self.crops = Crops(config.crops if training else 0, config.flips and training)
        self.noise = ImageNoise(config.noise, statistics.directions)
        content: Images = read(Path(path))
        self.classes, self.size = content.classes, content.images.shape[1:3]
        if self.crops.pad >= min(self.size):
            raise UserError(
                f"{path}: crops {config.crops} must be smaller than the images, {self.size[1]}x{self.size[0]}"
            )
        self.digest = content.digest()
        self.images = torch.from_numpy(content.images)
        self.labels, self.numbers = torch.from_numpy(content.labels), torch.from_numpy(content.numbers)
        everything = torch.arange(len(content))
        self.labelled, self.unlabelled = everything, everything[:0]
        if training and config.labels:
            draws = Keys(self.numbers, config.seed, "labelled").uniform(1)[:, 0]
            try:
                chosen = balanced(content.labels, config.labels, draws.numpy())
            except ValueError as error:
                raise UserError(f"{path}: {error}") from None
            self.labelled = torch.from_numpy(chosen)
            keeps = torch.ones(len(content), dtype=torch.bool)
            keeps[self.labelled] = False
            self.unlabelled = everything[keeps]
        size = config.train.batch_size
        if training and size > len(self.labelled):
            raise UserError(f"{path}: train.batch_size {size} exceeds the {len(self.labelled)} labelled images")
        if training and config.unlabelled > len(self.unlabelled):
            raise UserError(f"{path}: unlabelled {config.unlabelled} exceeds the {len(self.unlabelled)} there are")
        self._orders: dict[str, tuple[int, Tensor]] = {}

    def to(self, device: torch.device) -> None:
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.statistics = Statistics(*(part.to(device) for part in self.statistics))
        self.noise = ImageNoise(self.config.noise, self.statistics.directions)

    @property
    def batches(self) -> int:
        """In an epoch of the labelled images; those left over in one fill no batch."""
        return len(self.labelled) // self.config.train.batch_size

    def _order(self, which: str, epoch: int) -> Tensor:
        """The labelled or unlabelled rows in the order of an epoch."""
        if self._orders.get(which, (-1, None))[0] != epoch:
            rows = getattr(self, which)
            draws = Keys(self.numbers[rows], self.config.seed, f"order/{which}", epoch).uniform(1)[:, 0]
            self._orders[which] = (epoch, rows[torch.argsort(draws, stable=True)])
        return self._orders[which][1]

    def make(self, epoch: int, spec: BatchSpec) -> Batch:
        """Batch `spec.batch` of an epoch of training."""
        size = self.config.train.batch_size
        rows = self._order("labelled", epoch)[spec.batch * size : (spec.batch + 1) * size]
        count = self.config.unlabelled if spec.noisy else 0
        if count:
            # The unlabelled images go round at their own pace; what does not fill a batch waits for the next round.
            rounds, place = divmod(epoch * self.batches + spec.batch, len(self.unlabelled) // count)
            rows = torch.cat([rows, self._order("unlabelled", rounds)[place * count : (place + 1) * count]])
        return self.views(rows, epoch, spec, size)

    def views(self, rows: Tensor, epoch: int, spec: BatchSpec, labelled: int) -> Batch:
        """The batch of these images, whose first `labelled` samples enter the task loss."""
        totals = BatchTotals(len(rows), labelled)
        labels = len(self.shard.take(rows[:labelled]))
        rows = torch.cat([self.shard.take(rows[:labelled]), self.shard.take(rows[labelled:])])
        device = self.images.device
        ids, rows = (x.to(device, non_blocking=True) for x in (self.numbers[rows], rows))
        x = self.crops.apply(self.images, rows, Keys(ids, self.config.seed, "crops", epoch)).float()
        attack = bool(self.config.attack.kind) and spec.noisy > 0
        clean = self.statistics.normalise(x) if spec.clean or attack else None
        noisy = []
        for copy in range(1, spec.noisy + 1) if not attack else ():
            params = self.noise.draw(Keys(ids, self.config.seed, self.stream, epoch, copy), x.shape[2:])
            noisy.append(self.statistics.normalise(self.noise.apply(x, params)))
        return Batch(ids, clean, noisy, self.labels[rows[:labels]], totals, spec.noisy if attack else 0)
