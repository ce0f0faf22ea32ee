"""Log-mel features of waveforms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NORMALISATIONS = ("global", "utterance")


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel with Hann windows over whole frames only, natural logarithm, mel scale of HTK.

    stack: consecutive frames joined into one vector; a remainder shorter than a stack is left out. normalise: "global",
    by mean and variance of the training set, kept in the model; "utterance", by its own, which removes volume.
    """

    rate: int = 16000
    mels: int = 80
    window_ms: float = 25.0
    hop_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 0.0
    floor: float = 1e-10
    stack: int = 1
    normalise: str = "global"

    def __post_init__(self) -> None:
        if self.normalise not in NORMALISATIONS:
            raise ValueError(f"normalise must be one of {', '.join(NORMALISATIONS)}, got {self.normalise!r}")
        if min(self.rate, self.mels, self.stack) < 1 or min(self.window, self.hop) < 1:
            raise ValueError("rate, mels and stack must be positive, window_ms and hop_ms at least one sample")
        if not 0 <= self.low_hz < self.top_hz <= self.rate / 2:
            raise ValueError(
                f"expected 0 <= low_hz < high_hz <= {self.rate / 2:g}, got {self.low_hz:g}, {self.top_hz:g}"
            )

    @property
    def top_hz(self) -> float:
        """high_hz, where 0 stands for half the sampling rate."""
        return self.high_hz or self.rate / 2

    @property
    def window(self) -> int:
        return round(self.rate * self.window_ms / 1000)

    @property
    def hop(self) -> int:
        return round(self.rate * self.hop_ms / 1000)

    @property
    def dim(self) -> int:
        return self.mels * self.stack

    def frames(self, samples: int) -> int:
        """Number of feature vectors of an utterance of so many samples, at least 1."""
        return max(1, (1 + max(0, samples - self.window) // self.hop) // self.stack)


def mel_filters(config: FeatureConfig, fft_size: int) -> Tensor:
    """Triangular filters (fft_size / 2 + 1, mels), equally spaced on the mel scale 2595 log10(1 + f / 700)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (config.low_hz, config.top_hz))
    points = 700 * (10 ** (torch.linspace(low, high, config.mels + 2, dtype=torch.float64) / 2595) - 1)
    f = torch.linspace(0, config.rate / 2, fft_size // 2 + 1, dtype=torch.float64)[:, None]
    rise = (f - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - f) / (points[2:] - points[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


class LogMel:
    """(n,) samples -> (frames(n), dim) float32. A wave shorter than a window (or a stack) is padded with zeros."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        self.fft_size = 1 << math.ceil(math.log2(config.window))
        self.window = torch.hann_window(config.window)
        self.filters = mel_filters(config, self.fft_size)

    def __call__(self, wave: Tensor) -> Tensor:
        c = self.config
        if len(wave) < self.shortest:
            wave = torch.nn.functional.pad(wave, (0, self.shortest - len(wave)))
        x = self._spectra(wave)
        if c.normalise == "utterance":
            std, mean = torch.std_mean(x, dim=0, correction=0)
            x = (x - mean) / std.clamp(min=1e-3)
        count = len(x) // c.stack
        return x[: count * c.stack].reshape(count, c.dim)

    @property
    def shortest(self) -> int:
        """Samples of one feature vector."""
        return self.config.window + (self.config.stack - 1) * self.config.hop

    def _spectra(self, waves: Tensor) -> Tensor:
        """Log-mel of every window, (..., T) -> (..., windows, mels)."""
        c = self.config
        if self.window.device != waves.device:
            self.window, self.filters = self.window.to(waves.device), self.filters.to(waves.device)
        frames = waves.unfold(-1, c.window, c.hop)
        spectrum = torch.fft.rfft(frames * self.window, self.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log((power @ self.filters).clamp(min=c.floor))

    def batch(self, waves: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Padded waves (N, T) with lengths -> features (N, T', dim), zero on padding, and their lengths (N,)."""
        if not waves.is_cpu:
            return self._batch_at_once(waves, lens)
        rows = [self(wave[:n]) for wave, n in zip(waves, lens.tolist())]
        x_lens = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), x_lens

    def _batch_at_once(self, waves: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """The same up to rounding, in a few operations instead of a few for each wave, which is what a GPU needs. On a
        CPU an utterance alone has to give the same to the bit."""
        c = self.config
        counts = [c.frames(n) for n in lens.tolist()]
        samples = self.shortest + (max(counts) - 1) * c.stack * c.hop
        waves = torch.nn.functional.pad(waves, (0, max(0, samples - waves.shape[1])))
        lens = lens.to(waves.device, non_blocking=True)[:, None]
        x = self._spectra(waves.masked_fill(torch.arange(waves.shape[1], device=waves.device) >= lens, 0))
        if c.normalise == "utterance":
            windows = 1 + (lens.clamp(min=self.shortest) - c.window) // c.hop
            valid = (torch.arange(x.shape[1], device=x.device) < windows)[..., None]
            mean = (x * valid).sum(1, keepdim=True) / windows[..., None]
            std = ((x - mean).square() * valid).sum(1, keepdim=True).div(windows[..., None]).sqrt()
            x = (x - mean) / std.clamp(min=1e-3)
        x = x[:, : max(counts) * c.stack].reshape(len(x), max(counts), c.dim)
        x_lens = torch.tensor(counts)
        padding = torch.arange(max(counts), device=x.device) >= x_lens.to(x.device, non_blocking=True)[:, None]
        return x.masked_fill(padding[..., None], 0), x_lens


def pad_waves(waves: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Waves of several lengths as one zero-padded float32 tensor (N, T) and int64 lengths (N,)."""
    tensors = [torch.from_numpy(np.ascontiguousarray(wave)) for wave in waves]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True), torch.tensor([len(t) for t in tensors])
