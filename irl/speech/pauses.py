"""Cutting long recordings at pauses. The attention of a recogniser takes time and memory with the square of the length,
and has learnt utterances of some seconds."""

from __future__ import annotations

import numpy as np

# Seconds of a piece. A recording that is no longer than LONGEST stays whole.
SHORTEST, LONGEST = 5.0, 20.0
# Seconds between the places where a recording may be cut, and of the stretch that must be quiet around one.
STEP, PAUSE = 0.02, 0.3
# Amplitude that nothing exceeds in silence: -60 dBFS.
SILENCE = 1e-3


def is_silent(wave: np.ndarray) -> bool:
    return not np.abs(wave).max(initial=0.0) > SILENCE


def cut_at_pauses(wave: np.ndarray, rate: int) -> list[np.ndarray]:
    """(n,) samples as consecutive pieces of SHORTEST to LONGEST seconds, the last one perhaps shorter. Each ends where
    the next PAUSE seconds that it may end in are quietest."""
    step = max(1, round(STEP * rate))
    power = np.square(wave[: len(wave) // step * step], dtype=np.float64).reshape(-1, step).mean(1)
    width = round(PAUSE / STEP)
    quiet = np.convolve(power, np.ones(width) / width, mode="same") if len(power) else power
    shortest, longest = round(SHORTEST / STEP), round(LONGEST / STEP)
    ends, begin = [], 0
    while len(wave) - begin * step > LONGEST * rate:
        found = quiet[begin + shortest : begin + longest]
        # The last of equally quiet places.
        begin += shortest + len(found) - 1 - int(found[::-1].argmin())
        ends.append(begin * step)
    return np.split(wave, ends)
