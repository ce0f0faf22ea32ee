"""Acoustic noises, each made by one call: `irl.noise.audio` and `channel` in other people's code."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Sequence

import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.rng import Keys
from irl.noise import audio, channel
from irl.noise.bank import Bank, Part, RIRBank
from irl.noise.functions import WAVES, NoiseFunction
from irl.noise.snr import Between, Snrs, as_snrs

Snr = float | tuple[float, float] | None


class WaveFunction(NoiseFunction):
    """An acoustic noise of `irl.noise.audio`."""

    inputs = WAVES

    def __init__(self, noise: audio.Noise, rate: int | None = None) -> None:
        super().__init__()
        self.noise, self.rate = noise, rate

    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None = None) -> Tensor:
        if not isinstance(self.noise, channel.Volume):
            # The others work row by row, on the CPU.
            keys = replace(keys, ids=keys.ids.cpu())
        home = torch.device("cpu") if keys.ids.is_cpu else x.device
        return self.noise.apply(x.to(home), lens, self.noise.draw(keys, lens, ())).to(x.device)


def _hz(rate: int) -> int:
    if not isinstance(rate, int) or rate < 1:
        raise ValueError(f"rate: expected whole Hz above 0, found {rate!r}")
    return rate


def _snrs(snr: Snr) -> Snrs:
    """The argument `snr` of a noise: None, a number of dB, or (low, high)."""
    if snr is None:
        return ()
    if isinstance(snr, (tuple, list)) and (len(snr) != 2 or snr[0] > snr[1]):
        raise ValueError(f"snr: expected a number of dB or (low, high), found {snr!r}")
    return as_snrs(Between(*snr) if isinstance(snr, (tuple, list)) else snr)


def additive(
    folder: Path | str,
    rate: int = 16000,
    snr: Snr = None,
    categories: Sequence[str] | None = None,
    part: Part = "",
    folds: str = "",
) -> NoiseFunction:
    """Adds a clip of a folder of audio, from a random place on, begun again where it ends.

    folder: any folder, searched with all folders below it; any format, rate (it is resampled to `rate`, in Hz, that of
    the waves) and number of channels. categories: of a folder in MUSAN's layout, such as ["noise", "music"].
    snr: dB, a number or (low, high) drawn uniformly; None: Kaldi's, 15, 10, 5 or 0 for noise. Mean powers of the whole
    example are compared, the clean signal at unit gain; silence stays silence.
    part, folds: "train", "dev" or "test" of the files, split as `irl.noise.bank.folder_files` says.
    """
    bank = Bank(
        folder, _hz(rate), None if categories is None else audio.Additive.bank_categories(categories), part, folds
    )
    return WaveFunction(audio.Additive(bank, tuple(categories or ()), _snrs(snr)), rate)


def babble(
    folder: Path | str,
    rate: int = 16000,
    snr: Snr = None,
    talkers: tuple[int, int] = audio.TALKERS,
    part: Part = "",
    folds: str = "",
) -> NoiseFunction:
    """Adds several different recordings of a folder of speech, at equal power: as many as drawn from `talkers`, (least,
    most). snr: None is Kaldi's for babble, 20, 17, 15 or 13 dB. The rest as in `additive`; of a folder in MUSAN's
    layout its speech is taken."""
    layout = "speech" if (Path(folder) / "speech").is_dir() else "."
    bank = Bank(folder, _hz(rate), {"speech": layout}, part, folds)
    least, most = talkers
    if not 1 <= least <= most:
        raise ValueError(f"talkers: expected 1 <= least <= most, found {talkers!r}")
    if len(bank.clips["speech"]) < least:
        raise UserError(f"{folder}: {len(bank.clips['speech'])} recordings, too few for {least} talkers at once")
    return WaveFunction(audio.Additive(bank, ("babble",), _snrs(snr), (least, most)), rate)


def reverb(folder: Path | str, rate: int = 16000, part: Part = "", folds: str = "") -> NoiseFunction:
    """Convolves with a room impulse response, aligned to its direct sound; length and mean power are kept.

    folder: any folder of responses, as in `additive`; or RIRS_NOISES, of which the simulated small and medium rooms are
    taken. rate: of the waves in Hz.
    """
    return WaveFunction(audio.Reverberation(RIRBank(folder, _hz(rate), part, folds=folds)), rate)


def volume(low: float = 0.125, high: float = 2.0) -> NoiseFunction:
    """A gain drawn uniformly from [low, high], then rounding and clipping to 16 bits. The defaults are Kaldi's."""
    if not 0 < low <= high < math.inf or low == high == 1:
        raise ValueError(f"volume: expected gains 0 < low <= high, not both 1, found {low!r} and {high!r}")
    return WaveFunction(channel.Volume(low, high))


def telephone(rate: int = 16000, codecs: Sequence[str] = channel.Telephone.codecs) -> NoiseFunction:
    """A telephone line: 8 kHz, 300-3400 Hz, and one of the codecs. rate: of the waves in Hz."""
    known = channel.Telephone.codecs
    if not codecs or isinstance(codecs, str) or not set(codecs) <= set(known):
        raise ValueError(f"codecs: expected some of {', '.join(known)}, found {codecs!r}")
    return WaveFunction(channel.Telephone(_hz(rate), tuple(codecs)), rate)
