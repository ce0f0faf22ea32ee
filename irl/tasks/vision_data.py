"""Images: what an experiment is configured by, and its batches of views, made on the training device by plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from irl.data.images import Images, balanced, read
from irl.errors import UserError
from irl.models.wide_resnet import WideResNetConfig
from irl.noise.adversarial import AttackConfig
from irl.noise.image import Crops, ImageNoise, ImageNoiseConfig, lighting_of
from irl.processes import Part, Whole
from irl.random import Keys
from irl.tasks.base import ObjectiveConfig, Plan, SmoothnessConfig, TrainConfig


@dataclass(frozen=True)
class VisionConfig:
    """A whole experiment with images.

    crops: pixels of reflection padding that crops are taken from, 0 for no crops; flips: horizontal ones.
    labels: number of training images whose labels are used, as many of each class, 0 for all. unlabelled: images
    without labels in each batch beside train.batch_size with; only the distance looks at them.
    attack: noisy copies are adversarial instead (its kind empty: noise).
    """

    train_set: str
    dev_set: str
    statistics: str
    task: str = "vision"
    seed: int = 1
    crops: int = 4
    flips: bool = True
    labels: int = 0
    unlabelled: int = 0
    channels_last: bool = True
    compile: bool = False
    model: WideResNetConfig = WideResNetConfig()
    noise: ImageNoiseConfig = ImageNoiseConfig()
    attack: AttackConfig = AttackConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    smoothness: SmoothnessConfig = SmoothnessConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        for name in ("crops", "labels", "unlabelled"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        objective = self.objective.build()
        if self.unlabelled and not (self.labels and objective.gamma > 0):
            raise ValueError("unlabelled images need labels (how many there are) and a distance, objective.gamma > 0")
        if self.unlabelled and not objective.needs_noisy:
            raise ValueError("unlabelled images need a distance between views, not one between images")
        if self.compile and self.smoothness.used and self.smoothness.method != "forward":
            raise ValueError("a compiled model is differentiated twice by smoothness.method forward alone")
        if self.unlabelled and self.attack.kind:
            raise ValueError("unlabelled images cannot be attacked: attacks need labels")
        names = self.model.layer_names()
        # Unknown layers are refused here, before any training, not at the end of the clean phase.
        objective.layer_weights([*names, "logits"], names)
        if self.smoothness.used:
            replace(objective, layers=self.smoothness.layers, from_layer=self.smoothness.from_layer).layer_weights(
                [*names, "logits"], names
            )
            if not objective.needs_clean:
                raise ValueError("smoothness is taken of clean images, which no term of this objective looks at")
            if self.smoothness.sigma != "isotropic" and self.attack.kind:
                raise ValueError("smoothness.sigma is that of drawn noise, not of an attack: it must be isotropic")


class Statistics(NamedTuple):
    """Of the RGB values of the training set, on the scale 0-255: mean (3,), std (3,), directions of lighting (3, 3)."""

    mean: Tensor
    std: Tensor
    directions: Tensor

    @classmethod
    def of(cls, pixels: int, total: Tensor, products: Tensor) -> Statistics:
        """From the sums of `irl.noise.image.color_sums`."""
        mean = total / pixels
        covariance = products / pixels - torch.outer(mean, mean)
        std = covariance.diagonal().clamp(min=1e-6).sqrt()
        return cls(mean.float(), std.float(), lighting_of(covariance))

    @classmethod
    def read(cls, path: Path) -> Statistics:
        try:
            sums = json.loads(path.read_text())
            total, products = (torch.tensor(sums[key], dtype=torch.float64) for key in ("sum", "products"))
            return cls.of(int(sums["pixels"]), total, products)
        except FileNotFoundError:
            raise UserError(f"{path}: no such statistics; run stage 3 first") from None
        except (ValueError, KeyError, TypeError, RuntimeError):
            raise UserError(f"{path}: damaged statistics of images; run stage 3 again") from None

    def normalise(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) on the scale 0-255 -> (x - mean) / std."""
        scale = (1 / self.std).to(x.device).view(3, 1, 1)
        return torch.addcmul((-self.mean.to(x.device)).view(3, 1, 1) * scale, x, scale)


class Batch(NamedTuple):
    """Normalised views (B, 3, H, W) of the same images. clean is None where no term looks at it; noisy is empty where
    copies are adversarial, which only the model can make. y: labels (L,) of the first L <= B images. whole: the size of
    the batch that this may be a part of, with its labels."""

    ids: Tensor
    clean: Tensor | None
    noisy: list[Tensor]
    y: Tensor
    whole: Whole
    attacked: int = 0


class VisionData:
    """A set on a device, and its batches. part: "train" or "dev"; dev is neither cropped nor flipped nor shuffled.
    share: what this process takes of every batch."""

    def __init__(
        self, path: str, config: VisionConfig, statistics: Statistics, part: str, share: Part = Part()
    ) -> None:
        self.config, self.statistics, self.stream, self.share = config, statistics, f"noise/{part}", share
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
        self.images = self.crops.padded(torch.from_numpy(content.images))
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

    def make(self, epoch: int, plan: Plan) -> Batch:
        """Batch `plan.batch` of an epoch of training."""
        size = self.config.train.batch_size
        rows = self._order("labelled", epoch)[plan.batch * size : (plan.batch + 1) * size]
        count = self.config.unlabelled if plan.noisy else 0
        if count:
            # The unlabelled images go round at their own pace; what does not fill a batch waits for the next round.
            rounds, place = divmod(epoch * self.batches + plan.batch, len(self.unlabelled) // count)
            rows = torch.cat([rows, self._order("unlabelled", rounds)[place * count : (place + 1) * count]])
        return self.views(rows, epoch, plan, size)

    def views(self, rows: Tensor, epoch: int, plan: Plan, labelled: int) -> Batch:
        """Of images of which the first have labels that are used."""
        whole = Whole(len(rows), labelled)
        labels = len(self.share.take(rows[:labelled]))
        rows = torch.cat([self.share.take(rows[:labelled]), self.share.take(rows[labelled:])])
        device = self.images.device
        ids, rows = (x.to(device, non_blocking=True) for x in (self.numbers[rows], rows))
        x = self.crops.apply(self.images, rows, Keys(ids, self.config.seed, "crops", epoch)).float()
        attack = bool(self.config.attack.kind) and plan.noisy > 0
        clean = self.statistics.normalise(x) if plan.clean or attack else None
        noisy = []
        for copy in range(1, plan.noisy + 1) if not attack else ():
            params = self.noise.draw(Keys(ids, self.config.seed, self.stream, epoch, copy), x.shape[2:])
            noisy.append(self.statistics.normalise(self.noise.apply(x, params)))
        return Batch(ids, clean, noisy, self.labels[rows[:labels]], whole, plan.noisy if attack else 0)
