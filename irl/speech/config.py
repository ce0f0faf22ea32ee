"""Configuration of a speech experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irl.core.types import BelowOne, Checked, Seed
from irl.data.augment import AugmentConfig
from irl.data.features import FeatureConfig
from irl.models.encoder_decoder import EncoderDecoderConfig
from irl.speech.conditions import NoiseConfig
from irl.training.config import ObjectiveConfig, TrainConfig


@dataclass(frozen=True)
class SpeechConfig(Checked):
    """A whole speech experiment.

    ctc_weight: weight of the CTC loss, in [0, 1); the attention loss has the rest. label_smoothing: share of the
    target's probability that the attention decoder's cross-entropy spreads evenly over all tokens.
    """

    train_dir: str
    dev_dir: str
    vocabulary: str
    statistics: str
    task: Literal["speech"] = "speech"
    seed: Seed = 1
    ctc_weight: BelowOne = 0.5
    label_smoothing: BelowOne = 0.0
    allow_pipes: bool = False
    short_first: bool = True
    features: FeatureConfig = FeatureConfig()
    model: EncoderDecoderConfig = EncoderDecoderConfig()
    augment: AugmentConfig = AugmentConfig()
    noise: NoiseConfig = NoiseConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.ctc_weight > 0) != self.model.ctc:
            # A head that is never trained would be listened to in decoding.
            raise ValueError(f"ctc_weight is {self.ctc_weight}, but model.ctc is {str(self.model.ctc).lower()}")
        if self.augment.warps != (1.0, 1.0):
            self.features.check_warps(self.augment.warps)
        known = self.model.layer_names()
        names = [*known, "logits", *(["ctc"] if self.model.ctc else [])]
        self.objective.check_layers(names, known)
