"""Configuration of an experiment with images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from irl.core.types import Checked, Natural, Seed
from irl.models.wide_resnet import WideResNetConfig
from irl.noise.adversarial import AttackConfig
from irl.noise.image import ImageNoiseConfig
from irl.training.config import ObjectiveConfig, SmoothnessConfig, TrainConfig


@dataclass(frozen=True)
class VisionConfig(Checked):
    """A whole experiment with images.

    crops: pixels of reflection padding around the image before it is cropped, 0 for no crops; flips: flip horizontally.
    labels: number of labelled training images, the same number in each class, 0 for all. unlabelled: number of
    unlabelled images in each batch, in addition to train.batch_size labelled ones; only the distance uses them.
    attack: makes the noisy copies adversarial; if its kind is empty, `noise` makes them.
    """

    train_set: str
    dev_set: str
    statistics: str
    task: Literal["vision"] = "vision"
    seed: Seed = 1
    crops: Natural = 4
    flips: bool = True
    labels: Natural = 0
    unlabelled: Natural = 0
    channels_last: bool = True
    compile: bool = False
    model: WideResNetConfig = WideResNetConfig()
    noise: ImageNoiseConfig = ImageNoiseConfig()
    attack: AttackConfig = AttackConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    smoothness: SmoothnessConfig = SmoothnessConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        objective = self.objective.build()
        if self.unlabelled and not (self.labels and objective.gamma > 0):
            raise ValueError("unlabelled images need labels (how many there are) and a distance, objective.gamma > 0")
        if self.unlabelled and not objective.needs_noisy:
            raise ValueError("unlabelled images need a distance between views, not between different images")
        if self.compile and self.smoothness.used and self.smoothness.method != "forward":
            raise ValueError(
                "compile needs smoothness.method forward: it alone can differentiate a compiled model twice"
            )
        if self.unlabelled and self.attack.kind and self.attack.against == "labels":
            raise ValueError(
                "unlabelled images cannot be attacked: attacks need labels, unless attack.against is itself"
            )
        names = self.model.layer_names()
        self.objective.check_layers([*names, "logits"], names)
        if self.smoothness.used:
            smooth = replace(objective, layers=self.smoothness.layers, from_layer=self.smoothness.from_layer)
            smooth.layer_weights([*names, "logits"], names)
            if not objective.needs_clean:
                raise ValueError("smoothness needs clean images, but no term of this objective uses them")
            if self.smoothness.sigma != "isotropic" and self.attack.kind:
                raise ValueError(
                    "smoothness.sigma describes drawn noise, not an attack: with an attack it must be isotropic"
                )
