"""Speech examples: what an experiment is configured by, and its batches of views, made by plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irl.data.batches import epoch_batches
from irl.data.features import FeatureConfig, LogMel, pad_waves
from irl.data.kaldi import num_samples, read_data_dir, read_wave
from irl.data.ragged import Ragged
from irl.data.vocabulary import Vocabulary
from irl.errors import UserError
from irl.models.encoder_decoder import EncoderDecoderConfig
from irl.noise.audio import Noise
from irl.noise.augment import AugmentConfig, change_speeds
from irl.noise.conditions import NoiseConfig
from irl.noise.masks import SpecAugment
from irl.processes import Part, Whole
from irl.random import Keys, hash_ids
from irl.tasks.base import ObjectiveConfig, Plan, TrainConfig


@dataclass(frozen=True)
class SpeechConfig:
    """A whole speech experiment.

    ctc_weight: of the CTC loss in the sum of both, in [0, 1). label_smoothing: share of the target's probability that
    the attention decoder's cross-entropy spreads evenly over all tokens.
    """

    train_dir: str
    dev_dir: str
    vocabulary: str
    statistics: str
    task: str = "speech"
    seed: int = 1
    ctc_weight: float = 0.5
    label_smoothing: float = 0.0
    allow_pipes: bool = False
    short_first: bool = True
    features: FeatureConfig = FeatureConfig()
    model: EncoderDecoderConfig = EncoderDecoderConfig()
    augment: AugmentConfig = AugmentConfig()
    noise: NoiseConfig = NoiseConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if not 0 <= self.ctc_weight < 1:
            raise ValueError(f"ctc_weight must be in [0, 1), got {self.ctc_weight}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if (self.ctc_weight > 0) != self.model.ctc:
            # A head that is never trained would be listened to in decoding.
            raise ValueError(f"ctc_weight is {self.ctc_weight}, but model.ctc is {str(self.model.ctc).lower()}")
        known = self.model.layer_names()
        names = [*known, "logits", *(["ctc"] if self.model.ctc else [])]
        # Unknown layers are refused here, before any training, not at the end of the clean phase.
        self.objective.build().layer_weights(names, known)


class Batch(NamedTuple):
    """Views of the same utterances as model inputs, and their targets. clean is None where no term looks at it.

    y: int64 (B, U) padded with -1, y_lens (B,); the last target of every utterance is eos. whole: the size of the batch
    that this may be a part of, with its target tokens.
    """

    ids: list[str]
    clean: dict[str, Tensor] | None
    noisy: list[dict[str, Tensor]]
    y: Tensor
    y_lens: Tensor
    whole: Whole


class SpeechData(torch.utils.data.Dataset):
    """Batches of one data directory by plan: reads, noises and turns into features. Indexed by (epoch, plan).

    part: "train" or "dev". The dev set is not augmented, and hears the dev part of a bank that is split by file.
    share: what this process takes of every batch.
    """

    def __init__(
        self, path: str, config: SpeechConfig, vocabulary: Vocabulary, part: str, share: Part = Part()
    ) -> None:
        self.path, self.config, self.share = path, config, share
        self.stream = f"noise/{part}"
        self.augment = config.augment if part == "train" else AugmentConfig()
        self.utterances = read_data_dir(path, allow_pipes=config.allow_pipes)
        counts = num_samples(path, self.utterances, config.features.rate)
        self.lengths = [counts[u.id] for u in self.utterances]
        self.ids = hash_ids([u.id for u in self.utterances])
        self.targets = Ragged(
            [*vocabulary.encode(u.text or "", f"{path}/text: {u.id}"), vocabulary.eos] for u in self.utterances
        )
        self.eos = vocabulary.eos
        self.features = LogMel(config.features)
        self.masks = SpecAugment(config.features.mels, config.features.hop_ms / 1000 * config.features.stack)
        self.noise: Noise | SpecAugment | None = None
        if config.objective.build().needs_noisy:
            noise = config.noise if part == "train" else config.noise.of_dev()
            self.noise = self.masks if noise.masks_features else noise.build(config.features.rate)
        self._planned: tuple[int, list[list[int]]] = (-1, [])

    def batches(self, epoch: int) -> list[list[int]]:
        if self._planned[0] != epoch:
            c = self.config
            short_first = c.short_first and epoch == 0
            batches = epoch_batches(self.ids, self.lengths, c.train.batch_size, c.seed, epoch, short_first)
            self._planned = (epoch, batches)
        return self._planned[1]

    def __getitem__(self, item: tuple[int, Plan]) -> Batch | UserError:
        try:
            return self.make(*item)
        except UserError as error:
            # From a worker an exception would come with its traceback; `SpeechTask.loader` raises it again.
            return error

    def make(self, epoch: int, plan: Plan) -> Batch:
        rows = self.batches(epoch)[plan.batch]
        rows, whole = self.share.batch(rows, self.targets.count(rows))
        chosen = [self.utterances[i] for i in rows]
        ids = self.ids[rows]
        shared = Keys(ids, self.config.seed, "augment", epoch)
        heard = [read_wave(u, self.config.features.rate) for u in chosen]
        waves, lens = pad_waves(change_speeds(heard, self.augment.speeds, shared.sub("speed")))
        y, y_lens = self.targets.batch(rows)
        views = []
        if plan.clean or isinstance(self.noise, SpecAugment):
            x, x_lens = self.features.batch(waves, lens)
            views.append(x)
        for copy in range(1, plan.noisy + 1):
            assert self.noise is not None
            keys = Keys(ids, self.config.seed, self.stream, epoch, copy)
            if isinstance(self.noise, SpecAugment):
                views.append(self.noise.apply(x, x_lens, self.noise.draw(keys, x_lens)))
            else:
                params = self.noise.draw(keys, lens, [u.speaker for u in chosen])
                # Noise keeps the length, so lengths are those of the clean view.
                view, x_lens = self.features.batch(self.noise.apply(waves, lens, params), lens)
                views.append(view)
        if self.augment.specaugment:
            masks = self.masks.draw(shared.sub("masks"), x_lens)
            views = [self.masks.apply(view, x_lens, masks) for view in views]
        inputs = [self._inputs(view, x_lens, y, y_lens) for view in views]
        clean, noisy = (inputs[0] if plan.clean else None), inputs[len(inputs) - plan.noisy :]
        return Batch([u.id for u in chosen], clean, noisy, y, y_lens, whole)

    def _inputs(self, x: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor) -> dict[str, Tensor]:
        y_in = torch.cat([y.new_full((len(y), 1), self.eos), y[:, :-1]], dim=1).clamp(min=0)
        return {"x": x, "x_lens": x_lens, "y_in": y_in, "y_in_lens": y_lens}
