"""The one reader of audio, and the one resampler. Needs no torch; libraries load with the first file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.data.sources import open_audio

# Files that a folder of audio, such as a bank of noises, consists of.
AUDIO_SUFFIXES = tuple(".wav .flac .ogg .opus .mp3 .m4a .aac .wma .webm .aif .aiff .au .caf .w64 .sph".split())
# Largest sample that is taken for one of [-1, 1]: filters and mixes overshoot a little, integers in a float file far.
LOUDEST = 100.0
# Averaged channels with less than this share of their mean power cancel each other.
CANCELLED = 1e-3
# Sampling rates in Hz of recordings; the filter between two rates grows with the larger one.
RATES = range(1000, 384001)
# Samples that are resampled at once: an hour of audio never lies in memory at its own rate.
BLOCK = 2**20


class AudioInfo(NamedTuple):
    """Sampling rate in Hz and length in samples at that rate."""

    rate: int
    frames: int


def read_audio(
    source: Path | str,
    rate: int,
    start: int = 0,
    stop: int | None = None,
    *,
    any_rate: bool = False,
    any_channels: bool = False,
    channel: int | None = None,
    kaldi: bool = False,
    where: str = "",
) -> np.ndarray:
    """float32 (n,) in [-1, 1]: samples `start` to `stop` at `rate`, fewer where the recording ends before.

    any_rate: resample a file of another sampling rate instead of refusing it. any_channels: average several channels
    instead of refusing them; channel: take this one of them. kaldi: `source` is an entry of wav.scp, so it may also be
    `archive.ark:offset` or a shell command that ends in a pipe; the command runs. where: how errors name the source, by
    default its path.

    Raises UserError if the source is missing, cut off, or no audio, has another rate or several channels, holds NaN or
    values beyond [-1, 1], or if its channels cancel each other.
    """
    import soundfile

    where, part = where or str(source), slice(start, stop)
    with open_audio(str(source), kaldi, where) as audio:
        reader = _Reader(audio, channel, where)
        if audio.samplerate != rate and not any_rate:
            raise UserError(f"{where}: sampling rate {audio.samplerate} Hz, expected {rate}")
        if audio.channels > 1 and channel is None and not any_channels:
            raise UserError(f"{where}: {audio.channels} channels, expected 1")
        if audio.samplerate not in RATES:
            raise UserError(f"{where}: sampling rate {audio.samplerate} Hz, expected {RATES[0]} to {RATES[-1]} Hz")
        try:
            if audio.samplerate == rate:
                x = reader.read(*part.indices(audio.frames)[:2])
            else:
                x = _resampled(reader.read, audio.frames, audio.samplerate, rate, part)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".") or "damaged or cut off"
            raise UserError(f"{where}: cannot be read as audio: {reason}") from None
        except MemoryError:
            raise UserError(f"{where}: the header promises {audio.frames} samples, more than memory holds") from None
        reader.check_power()
    return x


def audio_info(source: Path | str, *, kaldi: bool = False, where: str = "") -> AudioInfo:
    """Rate and length. Arguments and errors as of `read_audio`."""
    with open_audio(str(source), kaldi, where or str(source)) as audio:
        return AudioInfo(audio.samplerate, audio.frames)


class _Reader:
    """Reads parts of an open file, from front to back, as one channel."""

    def __init__(self, audio: Any, channel: int | None, where: str) -> None:
        if channel is not None and not 0 <= channel < audio.channels:
            raise UserError(f"{where}: {audio.channels} channels, asked for channel {channel}, counted from 0")
        self.audio, self.channel, self.where = audio, channel, where
        self.power = self.mean_power = 0.0
        if audio.format in ("MP3", "OGG"):
            # A jump into a lossy format gives other samples than reading up to there, and soundfile jumps to where it
            # is after each read, unless the file seems to allow none.
            audio._info.seekable = False
        self.at, self.kept = 0, np.empty(0, np.float32)

    def read(self, begin: int, end: int) -> np.ndarray:
        """float32 (n,): samples `begin` to `end`. Those that the part before holds are not read again."""
        kept = self.kept[begin - (self.at - len(self.kept)) :]
        if begin > self.at and self.audio.seekable():
            self.at = self.audio.seek(begin)
        while self.at < begin:
            self.at += len(self._frames(min(BLOCK, begin - self.at)))
        x = self._mono(self._frames(max(0, end - self.at)))
        self.at += len(x)
        self.kept = np.concatenate([kept, x]) if len(kept) else x
        return self.kept

    def _frames(self, count: int) -> np.ndarray:
        x: np.ndarray = self.audio.read(count, dtype="float32", always_2d=True)
        if len(x) < count:
            raise UserError(f"{self.where}: it is cut off: the header promises {self.audio.frames} samples")
        return x

    def _mono(self, x: np.ndarray) -> np.ndarray:
        loudest = float(np.maximum(x.max(initial=0.0), -x.min(initial=0.0)))
        if not math.isfinite(loudest):
            raise UserError(f"{self.where}: holds samples that are not finite (NaN or infinity)")
        if loudest > LOUDEST:
            raise UserError(f"{self.where}: samples up to {loudest:.4g}, expected -1 to 1; scale the file, by 1/32768 "
                            "if it holds the values of 16-bit integers")  # fmt: skip
        if x.shape[1] == 1 or self.channel is not None:
            return x[:, self.channel or 0]
        mean = x.mean(axis=1)
        self.power += float(np.vdot(x, x)) / x.shape[1]
        self.mean_power += float(np.vdot(mean, mean))
        return mean

    def check_power(self) -> None:
        if self.mean_power < CANCELLED * self.power:
            raise UserError(f"{self.where}: its {self.audio.channels} channels cancel each other when averaged "
                            "(opposite signs); make a file of one of them")  # fmt: skip


def _resampled(
    read: Callable[[int, int], np.ndarray], frames: int, rate: int, new_rate: int, part: slice
) -> np.ndarray:
    """A part, at the new rate, of the `frames` samples that `read` gives. Equal to the part of the whole, to the bit:
    every block begins where the two rates meet, and reaches as far beyond its ends as the filter does."""
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    begin, end, _ = part.indices(-(-frames * up // down))
    margin = -(-(10 * max(up, down) // up + 2) // down)  # scipy's filter has 20 max(up, down) + 1 taps at rate * up
    step = max(1, BLOCK // down)
    out = np.empty(max(0, end - begin), np.float32)
    for period in range(begin // up, -(-end // up) if len(out) else 0, step):
        low = max(0, period - margin)
        x = resample(read(low * down, min((period + step + margin) * down, frames)), rate, new_rate)
        first, last = max(begin, period * up), min(end, (period + step) * up)
        out[first - begin : last - begin] = x[first - low * up : last - low * up]
    return out


def write_wav(path: Path, samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> None:
    """Write (n,) samples whole or not at all: floats in [-1, 1], or 16-bit integers. subtype: of libsndfile, "PCM_16"
    or "FLOAT". Raises UserError where it cannot be written."""
    import soundfile

    try:
        with atomic_io.replacing(path, sync=False) as temporary:
            soundfile.write(temporary, samples, rate, subtype=subtype, format="WAV")
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written: {error.error_string}") from None


def resample(x: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Polyphase resampling of the last axis, float32, by scipy.

    Everything is resampled here, so a recogniser hears its training data and a file to transcribe through one filter.
    torchaudio's default takes as long (0.6 to 1.9 times, 8 to 48 kHz) and damps less: a tone 15 % above the new Nyquist
    frequency comes back at -20 dB, here at -43 dB. Its Kaiser window of width 64 is clean and 1.5 to 8 times as slow.
    """
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, new_rate)
    return resample_poly(x, new_rate // divisor, rate // divisor, axis=-1).astype(np.float32)
