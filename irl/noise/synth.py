"""Generated banks: noises, music and rooms that replace MUSAN and RIRS_NOISES.

Every clip is a function of its name: the generator is seeded by a stable hash of it.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from irl.core.fingerprint import stable_hash

LEVEL_DB = -26.0


def _rng(*name: str | int) -> np.random.Generator:
    return np.random.default_rng(stable_hash(*name))


def _level(x: np.ndarray) -> np.ndarray:
    """Scale to LEVEL_DB below full scale in mean power, then below clipping."""
    x = x * (10 ** (LEVEL_DB / 20) / max(np.sqrt(np.mean(x**2)), 1e-12))
    return (x / max(1.0, np.abs(x).max() / 0.99)).astype(np.float32)


def coloured(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """Noise whose power falls as 1 / f^e, e drawn from [0, 2] (white to brown), with a slow random envelope."""
    exponent = rng.uniform(0, 2)
    f = np.fft.rfftfreq(n, 1 / rate)
    spectrum = (rng.normal(size=len(f)) + 1j * rng.normal(size=len(f))) * np.maximum(f, 40.0) ** (-exponent / 2)
    x = np.fft.irfft(spectrum, n)
    knots = rng.uniform(-6, 6, size=n // rate + 2)
    envelope = np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)
    return x * 10 ** (envelope / 20)


def band(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """A band of noise half to two octaves wide, as of a fan or an engine, modulated at 0.5-12 Hz."""
    low = rng.uniform(80, 0.2 * rate)
    high = min(low * 2 ** rng.uniform(0.5, 2), 0.48 * rate)
    f = np.fft.rfftfreq(n, 1 / rate)
    shape = np.exp(-0.5 * (np.log2(np.maximum(f, 1) / np.sqrt(low * high)) / (0.5 * np.log2(high / low))) ** 2)
    x = np.fft.irfft((rng.normal(size=len(f)) + 1j * rng.normal(size=len(f))) * shape, n)
    t = np.arange(n) / rate
    return x * (1 + rng.uniform(0.2, 0.9) * np.sin(2 * np.pi * rng.uniform(0.5, 12) * t + rng.uniform(0, 6.28)))


def hum(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """Mains hum or a motor: a fundamental of 50, 60 or 80-400 Hz, its harmonics, and some white noise."""
    t = np.arange(n) / rate
    fundamental = rng.choice([50.0, 60.0, rng.uniform(80, 400)])
    harmonics = np.arange(1, min(30, int(0.45 * rate / fundamental)) + 1)
    weights = rng.uniform(0, 1, len(harmonics)) / harmonics ** rng.uniform(0.3, 1.2)
    x = sum(w * np.sin(2 * np.pi * fundamental * h * t + rng.uniform(0, 6.28)) for w, h in zip(weights, harmonics))
    return x + 0.1 * np.std(x) * rng.normal(size=n)


def clicks(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """Keyboard-like clicks: bursts of a few milliseconds, 4-15 a second, over faint noise."""
    x = 0.02 * rng.normal(size=n)
    for start in rng.integers(0, n, size=max(1, int(n / rate * rng.uniform(4, 15)))):
        length = min(int(rate * rng.uniform(0.002, 0.02)), n - start)
        x[start : start + length] += (
            rng.uniform(0.3, 1) * rng.normal(size=length) * np.exp(-np.arange(length) * 5 / length)
        )
    return x


def impacts(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """Knocks and clatter: decaying resonances, 1-4 a second, over faint noise."""
    x = 0.02 * rng.normal(size=n)
    t = np.arange(n) / rate
    for start in rng.integers(0, n, size=max(1, int(n / rate * rng.uniform(1, 4)))):
        ring = np.exp(-t[: n - start] / rng.uniform(0.02, 0.2))
        partials = sum(np.sin(2 * np.pi * rng.uniform(100, 0.3 * rate) * t[: n - start]) for _ in range(4))
        x[start:] += rng.uniform(0.2, 1) * ring * (partials + rng.normal(size=n - start))
    return x


def music(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """A chord progression with bass, melody and drums, in a random key, tempo and timbre."""
    beat = 60 / rng.uniform(70, 150)
    root = rng.uniform(90, 180)
    scale = np.array([0, 2, 4, 5, 7, 9, 11] if rng.random() < 0.6 else [0, 2, 3, 5, 7, 8, 10])
    brightness = rng.uniform(0.3, 0.9)
    x = np.zeros(n)

    def note(start: float, length: float, semitones: float, gain: float) -> None:
        begin = int(start * rate)
        count = min(int(length * rate), n - begin)
        if count <= 0:
            return
        t = np.arange(count) / rate
        f = root * 2 ** (semitones / 12)
        tone = sum(brightness**h * np.sin(2 * np.pi * f * h * t) for h in range(1, 9) if f * h < 0.45 * rate)
        x[begin : begin + count] += gain * tone * np.exp(-2 * t / length) * np.minimum(1, t / 0.01)

    def drum(start: float, decay: float, gain: float) -> None:
        begin = int(start * rate)
        count = min(int(4 * decay * rate), n - begin)
        if count > 0:
            x[begin : begin + count] += gain * rng.normal(size=count) * np.exp(-np.arange(count) / (decay * rate))

    for bar in range(int(n / rate / beat / 4) + 1):
        degree = rng.choice([0, 3, 4, 5])
        chord = [scale[(degree + step) % 7] + 12 * ((degree + step) // 7) for step in (0, 2, 4)]
        for tone in chord:
            note(bar * 4 * beat, 4 * beat, 12 + tone, 0.5)
        for q in range(4):
            time = (4 * bar + q) * beat
            note(time, beat, chord[0] - 12, 0.8)
            note(time + beat / 2 * rng.integers(0, 2), beat / 2, 24 + rng.choice(chord), 0.6)
            drum(time, 0.02 if q % 2 else 0.06, 0.5)
    return x


NOISES: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (coloured, band, hum, clicks, impacts)


def noise_clip(name: str, index: int, seconds: float, rate: int) -> np.ndarray:
    """float32 (n,): the index-th clip of a set called name, its kind turning through NOISES."""
    rng = _rng("noise", name, index)
    return _level(NOISES[index % len(NOISES)](rng, int(seconds * rate), rate))


def music_clip(name: str, index: int, seconds: float, rate: int) -> np.ndarray:
    return _level(music(_rng("music", name, index), int(seconds * rate), rate))


def room_response(name: str, index: int, rate: int, medium: bool) -> np.ndarray:
    """float32 (n,): an impulse response of a shoebox room by pyroomacoustics (image sources, then ray tracing).

    Sizes and absorption follow the ranges of RIRS_NOISES' simulated rooms, but for the smallest: sides of 2-10 m
    (small; theirs begin at 1 m) or 10-30 m (medium), heights of 2-5 m, one source and one microphone anywhere at least
    0.5 m from the walls.
    """
    import pyroomacoustics as pra

    rng = _rng("room", name, index, int(medium))
    sides = rng.uniform(*((10, 30) if medium else (2, 10)), size=2)
    size = np.array([*sides, rng.uniform(2, 5)])
    pra.seed(numpy=int(rng.integers(2**31)), libroom=int(rng.integers(2**31)))
    room = pra.ShoeBox(
        size, fs=rate, materials=pra.Material(rng.uniform(0.2, 0.8)), max_order=3, ray_tracing=True, air_absorption=True
    )
    source, microphone = (rng.uniform(0.5, size - 0.5) for _ in range(2))
    room.add_source(source)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], dtype=np.float64)
    # Half a second holds the audible decay of such rooms and bounds the cost of a convolution.
    response = response[: rate // 2]
    return (response / np.abs(response).max()).astype(np.float32)
