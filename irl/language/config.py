"""Configuration of an experiment with text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irl.core.types import Checked, Count, NonNegative, Seed
from irl.models.lstm_lm import LSTMLMConfig
from irl.noise.text import WordNoiseConfig
from irl.training.config import ObjectiveConfig, TrainConfig


@dataclass(frozen=True)
class LanguageConfig(Checked):
    """A whole experiment with text.

    bptt: number of tokens of each row in a step; hidden states are carried from step to step. sum_over_time: multiply
    the objective by bptt, so that the loss is a sum over time and a mean over rows (Zaremba et al. 2014).
    share_dropout: the views of a text share their dropout masks. min_count: words with fewer occurrences in the
    training text are <unk>. ar, tar: weights of activation regularisation and of its temporal form, of
    the last layer in all views of the paired phase (irl.objective.activation).
    """

    train_text: str
    dev_text: str
    vocabulary: str
    min_count: Count = 1
    task: Literal["language"] = "language"
    seed: Seed = 1
    bptt: Count = 35
    sum_over_time: bool = True
    share_dropout: bool = False
    ar: NonNegative = 0.0
    tar: NonNegative = 0.0
    model: LSTMLMConfig = LSTMLMConfig()
    noise: WordNoiseConfig = WordNoiseConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.model.layer_names()
        self.objective.check_layers([*names, "logits"], names)
