"""Clean and noisy batches of lhotse's cuts, for loops such as icefall's. lhotse itself is not imported."""

from __future__ import annotations

from typing import Any, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from irl.data.features import pad_waves
from irl.data.pairs import Copies

Batch = dict[str, Any]


class PairedCuts(Dataset):
    """The data set that a lhotse sampler feeds with cuts; pairs[cuts] -> (clean, [noisy, ...]).

        pairs = PairedCuts(noise, features=Fbank(FbankConfig(num_mel_bins=80)))
        loader = DataLoader(pairs, sampler=sampler, batch_size=None, num_workers=2, persistent_workers=True)
        pairs.set_epoch(epoch); sampler.set_epoch(epoch)
        for clean, noisy in loader: ...

    Each view is a batch as K2SpeechRecognitionDataset makes it: "inputs", audio (N, T) or features (N, T, F), padded
    with zeros, the longest cut first; and "supervisions", S of them: "text" (a list), "sequence_idx" (the row), and
    "start_frame" and "num_frames", or for audio "start_sample" and "num_samples", int32 (S,). All views share them.

    noise: of `irl.noise`; draws are by the cut's id. lhotse gives mixed and appended cuts a new random id each time,
    and so new draws in a run that is repeated. features: a lhotse extractor, with `extract(samples, sampling_rate)` and
    `frame_shift`; None: audio. copies: noisy copies. seed, epoch: as of `irl.noise.paired`. return_cuts: also give the
    cuts of the supervisions, "cut".

    Raises ValueError for cuts of several channels, or of another rate than the noise's.
    """

    def __init__(
        self,
        noise: Any,
        copies: int = 1,
        features: Any = None,
        seed: int = 0,
        epoch: int | None = None,
        return_cuts: bool = False,
    ) -> None:
        self.copies = Copies(noise, copies, None, seed, epoch)
        self.features, self.return_cuts = features, return_cuts

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, as the sampler's; workers that live on see it too."""
        self.copies.shared.set(epoch)

    def __getitem__(self, cuts: Iterable[Any]) -> tuple[Batch, list[Batch]]:
        ordered = sorted(cuts, key=lambda cut: cut.duration, reverse=True)
        waves, lens = pad_waves([self._load(cut) for cut in ordered])
        c, ids = self.copies, [cut.id for cut in ordered]
        noisy_views = (
            c.noise(waves, lens, ids, epoch=c.epoch, copy=copy, seed=c.seed) for copy in range(1, c.copies + 1)
        )
        views = [waves, *noisy_views]
        rate = ordered[0].sampling_rate
        inputs = [self._inputs(view, lens, rate) for view in views]
        supervisions = self._supervisions(ordered, inputs[0].shape[1])
        clean, *noisy = ({"inputs": x, "supervisions": supervisions} for x in inputs)
        return clean, noisy

    def _load(self, cut: Any) -> np.ndarray:
        rate = getattr(self.copies.noise, "rate", None)
        if rate is not None and rate != cut.sampling_rate:
            raise ValueError(f"cut {cut.id}: {cut.sampling_rate} Hz, but the noise is for {rate} Hz")
        samples = cut.load_audio()
        if samples.ndim != 2 or len(samples) != 1:
            raise ValueError(f"cut {cut.id}: expected one channel, samples (1, T), found {list(samples.shape)}")
        wave: np.ndarray = samples[0].astype(np.float32)
        return wave

    def _inputs(self, waves: Tensor, lens: Tensor, rate: int) -> Tensor:
        if self.features is None:
            return waves
        rows = [self.features.extract(wave[:n].numpy(), rate) for wave, n in zip(waves, lens.tolist())]
        return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True)

    def _supervisions(self, cuts: list[Any], longest: int) -> dict[str, Any]:
        found = [(row, cut, part) for row, cut in enumerate(cuts) for part in cut.supervisions]
        steps = [cut.sampling_rate if self.features is None else 1 / self.features.frame_shift for _, cut, _ in found]
        # Halves are rounded up, as lhotse does.
        starts = [int(max(0.0, part.start) * step + 0.5 + 1e-6) for (_, _, part), step in zip(found, steps)]
        counts = [int(part.duration * step + 0.5 + 1e-6) for (_, _, part), step in zip(found, steps)]
        unit = "sample" if self.features is None else "frame"
        batch: dict[str, Any] = {
            "text": [part.text for _, _, part in found],
            "sequence_idx": torch.tensor([row for row, _, _ in found], dtype=torch.int32),
            f"start_{unit}": torch.tensor(starts, dtype=torch.int32),
            f"num_{unit}s": torch.tensor([min(n, longest - s) for s, n in zip(starts, counts)], dtype=torch.int32),
        }
        return batch | ({"cut": [cut for _, cut, _ in found]} if self.return_cuts else {})
