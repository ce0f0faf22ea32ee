"""Log-mel features of waveforms, and Kaldi's filterbank."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.output import lens_to_mask
from irl.core.types import Checked, Count, NonNegative, Positive

# Log energies below an utterance's level that normalise "level" keeps: 60 dB.
DEPTH = 6 * math.log(10)


@dataclass(frozen=True)
class FeatureConfig(Checked):
    """Log-mel energies over whole frames only, natural logarithm.

    kind: "log_mel", Hann windows and the mel scale of HTK; "kaldi_fbank", as Kaldi's compute-fbank-feats, no dither:
    each frame's mean removed, pre-emphasis 0.97, Povey windows, samples in the range of 16 bits, energies floored at
    float32's epsilon (`floor` keeps its default). stack: consecutive frames joined into one vector; a
    remainder shorter than a stack is left out.

    normalise: "global", by mean and variance of the training set, kept in the model, which hears level; "utterance", by
    mean and variance of each mel band over the utterance; "mean", by its mean of each band, then as "global"; "level",
    by its level alone, then as "global": the logarithm of the mean power of all frames and bands is subtracted, so
    that neither pauses nor few words change the rest much, and what lies more than 60 dB below is raised to -60 dB.
    """

    rate: Count = 16000
    mels: Count = 80
    window_ms: Positive = 25.0
    hop_ms: Positive = 10.0
    low_hz: NonNegative = 20.0
    high_hz: NonNegative = 0.0
    floor: Positive = 1e-10
    stack: Count = 1
    normalise: Literal["global", "utterance", "mean", "level"] = "global"
    kind: Literal["log_mel", "kaldi_fbank"] = "log_mel"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.window, self.hop) < 1:
            raise ValueError("window_ms and hop_ms must be at least one sample long")
        if not 0 <= self.low_hz < self.top_hz <= self.rate / 2:
            raise ValueError(
                f"expected 0 <= low_hz < high_hz <= {self.rate / 2:g}, got {self.low_hz:g}, {self.top_hz:g}"
            )
        if self.kind == "kaldi_fbank" and (self.mels < 4 or self.floor != FeatureConfig.floor):
            raise ValueError(
                f"kind kaldi_fbank expects mels of at least 4 and the floor at its default {FeatureConfig.floor:g}, "
                f"got {self.mels}, {self.floor:g}"
            )

    @property
    def top_hz(self) -> float:
        """high_hz, where 0 stands for half the sampling rate."""
        return self.high_hz or self.rate / 2

    @property
    def warped_hz(self) -> tuple[float, float]:
        """Between these a warp of the mel filters has its full factor: Kaldi's defaults of vtln-low and vtln-high."""
        return 100.0, self.rate / 2 - 500

    def check_warps(self, warps: tuple[float, ...]) -> None:
        """Raise ValueError for factors under which a filter would hear nothing, or which the features do not allow."""
        low, high = self.warped_hz
        if not self.low_hz < low < high < self.top_hz:
            raise ValueError(
                f"augment.warps needs features from below {low:g} to above {high:g} Hz, got features of "
                f"{self.low_hz:g} to {self.top_hz:g} Hz"
            )
        for warp in (1.0, *warps):
            if not mel_filters(self, warp).any(0).all():
                raise ValueError(
                    f"augment.warps: with a warp of {warp:g} some of {self.mels} mels hear nothing; take fewer"
                )

    @property
    def window(self) -> int:
        return self._samples(self.window_ms)

    @property
    def fft_size(self) -> int:
        """The least power of two that holds a window."""
        return 1 << math.ceil(math.log2(self.window))

    @property
    def hop(self) -> int:
        return self._samples(self.hop_ms)

    def _samples(self, ms: float) -> int:
        """Milliseconds in samples; Kaldi rounds down."""
        return int(self.rate * ms * 0.001) if self.kind == "kaldi_fbank" else round(self.rate * ms / 1000)

    @property
    def dim(self) -> int:
        return self.mels * self.stack

    def frames(self, samples: int) -> int:
        """Number of feature vectors of an utterance of so many samples, at least 1."""
        return max(1, (1 + max(0, samples - self.window) // self.hop) // self.stack)

    def build(self) -> Features:
        """The extractor of these features."""
        return KaldiFbank(self) if self.kind == "kaldi_fbank" else LogMel(self)


def mel_filters(config: FeatureConfig, warp: float = 1.0) -> Tensor:
    """Triangular filters (config.fft_size / 2 + 1, mels), equally spaced on the mel scale 2595 log10(1 + f / 700).

    warp: their corners move to corner / warp, as in Kaldi's VTLN with its defaults: from 100 Hz to 500 Hz below half
    the sampling rate, before and after the move. Beyond, the move shrinks linearly: the lowest and the highest stay.

    Computed in double precision; torchaudio.functional.melscale_fbanks works in single precision and differs by up to
    1e-5, so trained models would hear other features.
    """
    low, high = (2595 * math.log10(1 + f / 700) for f in (config.low_hz, config.top_hz))
    points = 700 * (10 ** (torch.linspace(low, high, config.mels + 2, dtype=torch.float64) / 2595) - 1)
    if warp != 1:
        from torchaudio.compliance.kaldi import vtln_warp_freq

        points = vtln_warp_freq(*config.warped_hz, config.low_hz, config.top_hz, warp, points)
    f = torch.linspace(0, config.rate / 2, config.fft_size // 2 + 1, dtype=torch.float64)[:, None]
    rise = (f - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - f) / (points[2:] - points[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


class Features(ABC):
    """(n,) samples -> (frames(n), dim) float32. A wave shorter than a window (or a stack) is padded with zeros."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config

    @abstractmethod
    def energies(self, wave: Tensor, warp: float = 1.0) -> Tensor:
        """(n,) samples, a window or more -> logarithms of mel energies (frames, mels). warp: see `mel_filters`."""

    def __call__(self, wave: Tensor, warp: float = 1.0) -> Tensor:
        c = self.config
        if len(wave) < self.shortest:
            wave = torch.nn.functional.pad(wave, (0, self.shortest - len(wave)))
        x = self.energies(wave, warp)
        x = self.normalised(x[None], torch.tensor([len(x)], device=x.device))[0]
        count = len(x) // c.stack
        return x[: count * c.stack].reshape(count, c.dim)

    def normalised(self, x: Tensor, windows: Tensor) -> Tensor:
        """Normalise energies (N, T, mels) as `FeatureConfig.normalise` says. The first `windows` (N,) are valid."""
        kind = self.config.normalise
        if kind == "global":
            return x
        count = windows[:, None, None]
        valid = lens_to_mask(windows, x.shape[1])[..., None]
        if kind == "level":
            total = x.masked_fill(~valid, -math.inf).logsumexp((1, 2), keepdim=True)
            level = total - torch.log(count * x.shape[2])
            return (x - level.clamp(min=self.faintest)).clamp(min=-DEPTH)
        x = x - (x * valid).sum(1, keepdim=True) / count
        if kind == "utterance":
            x = x / ((x * valid).square().sum(1, keepdim=True) / count).sqrt().clamp(min=1e-3)
        return x

    @property
    def faintest(self) -> float:
        """About -97 dBFS, the rounding noise of 16 bits. Quieter recordings are not raised: silence stays."""
        return math.log(1e-7 * (2**30 if self.config.kind == "kaldi_fbank" else 1))

    @property
    def shortest(self) -> int:
        """Samples of one feature vector."""
        return self.config.window + (self.config.stack - 1) * self.config.hop

    def batch(self, waves: Tensor, lens: Tensor, warps: Sequence[float] = ()) -> tuple[Tensor, Tensor]:
        """Padded waves (N, T) with lengths -> features (N, T', dim), zero on padding, and their lengths (N,). warps: of
        the mel filters, one for each wave; by default none."""
        warps = warps or [1.0] * len(waves)
        rows = [self(wave[:n], warp) for wave, n, warp in zip(waves, lens.tolist(), warps, strict=True)]
        x_lens = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), x_lens


class LogMel(Features):
    """Features of kind "log_mel"."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self.fft_size = config.fft_size
        self.window = torch.hann_window(config.window)
        self.filters = mel_filters(config)

    def energies(self, wave: Tensor, warp: float = 1.0) -> Tensor:
        """Also of several waves of one length, (..., n) -> (..., frames, mels)."""
        if self.window.device != wave.device:
            self.window, self.filters = self.window.to(wave.device), self.filters.to(wave.device)
        filters = self.filters if warp == 1 else mel_filters(self.config, warp).to(wave.device)
        frames = wave.unfold(-1, self.config.window, self.config.hop)
        spectrum = torch.fft.rfft(frames * self.window, self.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log((power @ filters).clamp(min=self.config.floor))

    def batch(self, waves: Tensor, lens: Tensor, warps: Sequence[float] = ()) -> tuple[Tensor, Tensor]:
        """At once on a GPU. On a CPU one by one: there a batch gives the same to the bit as each utterance alone."""
        return super().batch(waves, lens, warps) if waves.is_cpu or warps else self._batch_at_once(waves, lens)

    def _batch_at_once(self, waves: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`batch` up to rounding, in a few operations for all waves instead of a few for each."""
        c = self.config
        counts = [c.frames(n) for n in lens.tolist()]
        samples = self.shortest + (max(counts) - 1) * c.stack * c.hop
        waves = torch.nn.functional.pad(waves, (0, max(0, samples - waves.shape[1])))
        lens = lens.to(waves.device, non_blocking=True)
        x = self.energies(waves.masked_fill(~lens_to_mask(lens, waves.shape[1]), 0))
        x = self.normalised(x, 1 + (lens.clamp(min=self.shortest) - c.window) // c.hop)
        x = x[:, : max(counts) * c.stack].reshape(len(x), max(counts), c.dim)
        x_lens = torch.tensor(counts)
        valid = lens_to_mask(x_lens.to(x.device, non_blocking=True), max(counts))
        return x.masked_fill(~valid[..., None], 0), x_lens


class KaldiFbank(Features):
    """Features of kind "kaldi_fbank", by torchaudio."""

    def energies(self, wave: Tensor, warp: float = 1.0) -> Tensor:
        from torchaudio.compliance.kaldi import fbank

        c = self.config
        return fbank(
            32768 * wave[None],  # Kaldi reads 16-bit samples as they are
            dither=0.0,
            sample_frequency=c.rate,
            frame_length=c.window_ms,
            frame_shift=c.hop_ms,
            low_freq=c.low_hz,
            high_freq=c.high_hz,
            num_mel_bins=c.mels,
            vtln_warp=warp,
        )


def pad_waves(waves: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Waves of several lengths as one zero-padded float32 tensor (N, T) and int64 lengths (N,)."""
    tensors = [torch.from_numpy(np.ascontiguousarray(wave)) for wave in waves]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True), torch.tensor([len(t) for t in tensors])
