"""Configuration of an experiment with text."""

from __future__ import annotations

from dataclasses import dataclass

from irl.models.lstm_lm import LSTMLMConfig
from irl.noise.text import WordNoiseConfig
from irl.training.config import ObjectiveConfig, TrainConfig


@dataclass(frozen=True)
class LanguageConfig:
    """A whole experiment with text.

    bptt: tokens of each row that a step looks at; states are carried from step to step. sum_over_time: the objective is
    multiplied by that number, so that the loss is a sum over time and a mean over rows (Zaremba et al. 2014).
    share_dropout: the views of a text have the same dropout masks. min_count: words that the training text has fewer
    times are <unk>.
    """

    train_text: str
    dev_text: str
    vocabulary: str
    min_count: int = 1
    task: str = "language"
    seed: int = 1
    bptt: int = 35
    sum_over_time: bool = True
    share_dropout: bool = False
    model: LSTMLMConfig = LSTMLMConfig()
    noise: WordNoiseConfig = WordNoiseConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if self.bptt < 1:
            raise ValueError(f"bptt must be at least 1, got {self.bptt}")
        if self.min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {self.min_count}")
        names = layer_names(self.model)
        # Unknown layers are refused here, before any training, not at the end of the clean phase.
        self.objective.build().layer_weights([*names, "logits"], names)


def layer_names(model: LSTMLMConfig) -> list[str]:
    return ["embedding", *(f"rnn.{i}" for i in range(model.layers))]
