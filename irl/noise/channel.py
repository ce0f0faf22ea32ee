"""What a recorder and a telephone line do to a wave. These noises work as in `irl.noise.audio`, and need no bank."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.rng import Keys
from irl.data.audio import resample
from irl.noise.audio import per_row


def check_samples(waves: Tensor) -> None:
    """Raise ValueError for waves far outside [-1, 1], as 16-bit samples are, where a noise depends on it; on a GPU not:
    looking would wait for it."""
    if waves.is_cpu and waves.numel() and float(torch.stack(waves.aminmax()).abs().max()) > 100:
        raise ValueError(
            f"expected samples in [-1, 1], found {float(waves.abs().max()):g}; divide 16-bit ones by 32768"
        )


@dataclass(frozen=True)
class Volume:
    """A gain drawn uniformly from [low, high], then what a 16-bit recorder does: rounding and clipping."""

    low: float
    high: float

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> Tensor:
        return keys.sub("gain").uniform(1, self.low, self.high)[:, 0]

    def apply(self, waves: Tensor, lens: Tensor, params: Tensor) -> Tensor:
        check_samples(waves)
        scaled = waves * params.to(waves.dtype)[:, None]
        return (scaled * 32768).round().clamp(-32768, 32767) / 32768

    def describe(self, params: Tensor) -> str:
        return f"gain {float(params[0]):.4g}"


@dataclass(frozen=True)
class Level:
    """Another recording level, without clipping: so many decibels more, or, where dbfs is set, an RMS of so many dBFS.
    Samples are rounded to steps of 16 bits. Silence stays silence."""

    decibels: float
    dbfs: bool = False

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> Tensor:
        return torch.full((len(lens),), self.decibels)

    def apply(self, waves: Tensor, lens: Tensor, params: Tensor) -> Tensor:
        gain = 10 ** (params / 20)
        if self.dbfs:
            gain = gain / (waves.square().sum(1) / lens).sqrt().clamp(min=1e-6)
        return (waves * gain[:, None] * 32768).round() / 32768

    def describe(self, params: Tensor) -> str:
        return f"{float(params[0]):+g} {'dBFS' if self.dbfs else 'dB'}"


@dataclass(frozen=True)
class Telephone:
    """A telephone line: 8 kHz, a 300-3400 Hz Butterworth band-pass of 4th order, and mu-law, A-law or GSM 06.10."""

    rate: int
    codecs: tuple[str, ...] = ("ULAW", "ALAW", "GSM610")

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> list[str]:
        return [self.codecs[i] for i in keys.sub("codec").integers(1, len(self.codecs))[:, 0].tolist()]

    def apply(self, waves: Tensor, lens: Tensor, params: list[str]) -> Tensor:
        check_samples(waves)
        return per_row(waves, lens, lambda i, x, out: np.copyto(out, self._line(x, params[i])))

    def describe(self, params: list[str]) -> str:
        return params[0]

    def _line(self, x: np.ndarray, codec: str) -> np.ndarray:
        import soundfile
        from scipy.signal import sosfilt

        if not len(x):
            return x.copy()
        narrow = sosfilt(_band_pass(), resample(x, self.rate, 8000) if self.rate != 8000 else x)
        with io.BytesIO() as file:
            soundfile.write(file, np.clip(narrow, -1, 1), 8000, format="WAV", subtype=codec)
            file.seek(0)
            decoded, _ = soundfile.read(file, dtype="float32")
        # GSM works on blocks of 160 samples and pads the last one.
        y = resample(decoded[: len(narrow)], 8000, self.rate) if self.rate != 8000 else decoded
        return np.pad(y, (0, max(0, len(x) - len(y))))[: len(x)]


@functools.lru_cache(maxsize=1)
def _band_pass() -> np.ndarray:
    from scipy.signal import butter

    return butter(4, [300, 3400], btype="bandpass", fs=8000, output="sos")
