"""Convolution with room impulse responses by overlap-save, with the spectra of the responses cached."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Spectrum(NamedTuple):
    """An impulse response ready for use: its spectrum at fft_size, its length, and the sample of its direct sound."""

    values: Tensor
    fft_size: int
    length: int
    peak: int


def spectrum(rir: np.ndarray) -> Spectrum:
    """The spectrum of a response (L,) at the power of two above 1.5 L. Longer blocks would repeat less of the signal,
    but leave the processor's cache, and were slower for responses of 0.2-0.6 s."""
    fft_size = 1 << int(np.ceil(np.log2(max(1.5 * len(rir), 1024))))
    values = torch.fft.rfft(torch.from_numpy(rir.astype(np.float32)), fft_size)
    return Spectrum(values, fft_size, len(rir), int(np.abs(rir).argmax()))


def reverberate(x: np.ndarray, rir: Spectrum, out: np.ndarray | None = None) -> np.ndarray:
    """x (T,) convolved with the response, aligned to its direct sound, length kept, mean power kept. float32 (T,).

    out: where to write the result, as in numpy; a new array if None.
    """
    hop = rir.fft_size - rir.length + 1
    # Output sample t is the full convolution at t + peak: the input is shifted left by the peak.
    blocks = -(-len(x) // hop)
    padded = np.zeros((blocks - 1) * hop + rir.fft_size, dtype=np.float32)
    begin = rir.length - 1 - rir.peak
    padded[begin : begin + len(x)] = x[: len(padded) - begin]
    # torch's FFT, because MKL behind it takes two thirds of the time of scipy's.
    frames = torch.fft.rfft(torch.from_numpy(padded).unfold(0, rir.fft_size, hop)).mul_(rir.values)
    y = torch.fft.irfft(frames, rir.fft_size)[:, rir.length - 1 :].reshape(-1)[: len(x)].numpy()
    power = float(np.dot(y, y))
    gain = np.sqrt(float(np.dot(x, x)) / power) if power > 0 else 0.0
    return np.multiply(y, np.float32(gain), out=out)
