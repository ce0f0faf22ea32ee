"""Batches of utterances and their views."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.rng import Keys, hash_ids
from irl.data.augment import AugmentConfig, change_gains, change_speeds, draw_warps
from irl.data.features import pad_waves
from irl.data.kaldi import num_samples, read_data_dir, read_wave
from irl.data.ragged import previous
from irl.data.sampler import EpochBatches
from irl.data.vocabulary import Vocabulary
from irl.noise.audio import Noise
from irl.noise.spec_augment import SpecAugment
from irl.speech.config import SpeechConfig
from irl.training.distributed import BatchTotals, Shard
from irl.training.task import BatchSpec


class Batch(NamedTuple):
    """Views of the same utterances as model inputs, and their targets. clean is None where no term looks at it.

    y: int64 (B, U) padded with -1, y_lens (B,); the last target of every utterance is eos. totals: the size of the
    global batch, with its target tokens. weight: weight of these samples; 0 on a rank without own samples.
    """

    ids: list[str]
    clean: dict[str, Tensor] | None
    noisy: list[dict[str, Tensor]]
    y: Tensor
    y_lens: Tensor
    totals: BatchTotals
    weight: float = 1.0


class SpeechData(torch.utils.data.Dataset):
    """Batches of one data directory by spec: reads, noises and turns into features. Indexed by (epoch, spec).

    part: "train" or "dev". The dev set is not augmented, and hears the dev part of a bank that is split by file.
    shard: of this process in every batch.
    """

    def __init__(
        self, path: str, config: SpeechConfig, vocabulary: Vocabulary, part: str, shard: Shard = Shard()
    ) -> None:
        self.path, self.config, self.shard = path, config, shard
        self.stream = f"noise/{part}"
        self.augment = config.augment if part == "train" else AugmentConfig()
        found = read_data_dir(path, allow_pipes=config.allow_pipes)
        self.targets = vocabulary.encode_all(found.texts or (), lambda i: f"{path}/text: {found.ids[i]}")
        self.utterances = replace(found, texts=None)
        lengths = num_samples(path, self.utterances, config.features.rate)
        self.ids = hash_ids(self.utterances.ids)
        self.batches = EpochBatches(self.ids, lengths, config.train.batch_size, config.seed, config.short_first)
        self.eos = vocabulary.eos
        self.features = config.features.build()
        self.masks = SpecAugment(config.features.mels, config.features.hop_ms / 1000 * config.features.stack)
        self.noise: Noise | SpecAugment | None = None
        if config.objective.build().needs_noisy:
            noise = config.noise if part == "train" else config.noise.of_dev()
            self.noise = self.masks if noise.masks_features else noise.build(config.features.rate)

    def __getitem__(self, item: tuple[int, BatchSpec]) -> Batch | UserError:
        try:
            return self.make(*item)
        except UserError as error:
            # From a worker an exception would come with its traceback; `SpeechTask.loader` raises it again.
            return error

    def make(self, epoch: int, spec: BatchSpec) -> Batch:
        rows = self.batches[epoch][spec.batch]
        totals = BatchTotals(len(rows), self.targets.count(rows))
        rows, weight = self.shard.batch(rows)
        chosen = [self.utterances[i] for i in rows]
        ids = self.ids[rows]
        shared = Keys(ids, self.config.seed, "augment", epoch)
        heard = [read_wave(u, self.config.features.rate) for u in chosen]
        waves, lens = pad_waves(change_speeds(heard, self.augment.speeds, shared.sub("speed")))
        waves = change_gains(waves, self.augment.gains, shared.sub("gain"))
        warps = draw_warps(self.augment.warps, shared.sub("warp"))
        y, y_lens = self.targets.batch(rows)
        views = []
        if spec.clean or isinstance(self.noise, SpecAugment):
            x, x_lens = self.features.batch(waves, lens, warps)
            views.append(x)
        for copy in range(1, spec.noisy + 1):
            assert self.noise is not None
            keys = Keys(ids, self.config.seed, self.stream, epoch, copy)
            if isinstance(self.noise, SpecAugment):
                views.append(self.noise.apply(x, x_lens, self.noise.draw(keys, x_lens)))
            else:
                params = self.noise.draw(keys, lens, [u.speaker for u in chosen])
                # Noise keeps the length, so the lengths of the clean view hold.
                view, x_lens = self.features.batch(self.noise.apply(waves, lens, params), lens, warps)
                views.append(view)
        if self.augment.specaugment:
            masks = self.masks.draw(shared.sub("masks"), x_lens)
            views = [self.masks.apply(view, x_lens, masks) for view in views]
        y_in = previous(y, self.eos)
        inputs = [{"x": view, "x_lens": x_lens, "y_in": y_in, "y_in_lens": y_lens} for view in views]
        clean, noisy = (inputs[0] if spec.clean else None), inputs[len(inputs) - spec.noisy :]
        return Batch([u.id for u in chosen], clean, noisy, y, y_lens, totals, weight)
