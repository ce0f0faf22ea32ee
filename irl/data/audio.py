"""Reading and resampling audio."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from irl.core.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")


def read_audio(path: Path, rate: int, start: int = 0, frames: int = -1) -> np.ndarray:
    """float32 (n,) at `rate`: several channels are averaged, another sampling rate is resampled; NaN is refused."""
    import soundfile

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        info = soundfile.info(str(path))
        if info.samplerate == rate:
            x, _ = soundfile.read(str(path), start=start, frames=frames, dtype="float32", always_2d=True)
        else:
            x, _ = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: cannot be read as audio: {error}") from None
    x = x[:, 0] if x.shape[1] == 1 else x.mean(axis=1)
    if info.samplerate != rate:
        x = resample(x, info.samplerate, rate)
        x = x[start : start + frames] if frames >= 0 else x[start:]
    if not np.isfinite(x).all():
        raise UserError(f"{path}: holds samples that are not finite (NaN or infinity)")
    return x


def resample(x: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Polyphase resampling of the last axis, float32."""
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, new_rate)
    return resample_poly(x, new_rate // divisor, rate // divisor, axis=-1).astype(np.float32)
