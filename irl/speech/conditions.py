"""Acoustic conditions by name: the noises of training and the noises of the tests."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from irl.core.errors import UserError
from irl.core.types import Checked, Natural, NonEmpty
from irl.noise.audio import Additive, Category, Noise, OneOf, OverlappedSpeech, Reverberation
from irl.noise.bank import ROOMS, Bank, Part, RIRBank
from irl.noise.channel import Level, Telephone, Volume

Kind = Literal["additive", "rir", "speech", "vup", "vdown", "volume", "tel", "real_noise", "real_rooms"]
KINDS = get_args(Kind)
# Test conditions of another recording level: relative in dB, such as gain-20 and gain+10, or absolute, such as dbfs-40.
LEVEL = re.compile(r"(gain|dbfs)([+-]\d{1,2})")
# A noise on features instead of waveforms; it cannot be combined with other noises.
SPECAUGMENT = "specaugment"
# Of a test set with several copies of each utterance: the utterance of each copy.
SOURCES = "utt2source"
# The bank of noises, or of rooms, that test sets are made with, where none is given.
GENERATED = "generated"


@dataclass(frozen=True)
class NoiseConfig(Checked):
    """kinds: each noisy copy draws one of these kinds; or "specaugment" alone, which masks the features of the copy.
    categories: categories of additive noise; "babble" is an option.

    musan, rirs: directories in the layouts of MUSAN and of RIRS_NOISES. part, rirs_part: part of the files of musan and
    of the rooms of rirs, see `Bank`; empty: all.
    noises, rooms: any folders of recorded noises and of impulse responses, of the kinds real_noise and real_rooms.
    noises_part, rooms_part, folds: what part of their files, see `irl.noise.bank.folder_files`; empty: all.
    rir_channel: which channel of an impulse response that has several, counted from 0.
    Each folder is read only if a kind needs it.
    """

    kinds: Annotated[tuple[Literal[Kind, "specaugment"], ...], NonEmpty] = ("additive",)
    categories: Annotated[tuple[Category, ...], NonEmpty] = ("noise", "music")
    musan: str = ""
    rirs: str = ""
    part: Part = ""
    rirs_part: Part = ""
    noises: str = ""
    noises_part: Part = ""
    rooms: str = ""
    rooms_part: Part = ""
    folds: str = ""
    rir_channel: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if SPECAUGMENT in self.kinds and len(self.kinds) > 1:
            raise ValueError(f"kinds: {SPECAUGMENT} cannot be combined, found {', '.join(self.kinds)}")

    @property
    def masks_features(self) -> bool:
        return self.kinds == (SPECAUGMENT,)

    def of_dev(self) -> NoiseConfig:
        """The same noise from the dev part of what is split."""
        parts = [part and "dev" for part in (self.part, self.rirs_part, self.noises_part, self.rooms_part)]
        return replace(self, part=parts[0], rirs_part=parts[1], noises_part=parts[2], rooms_part=parts[3])

    def build(self, rate: int) -> Noise:
        """The noise of waveforms."""
        noises = [build(kind, rate, self) for kind in self.kinds]
        return noises[0] if len(noises) == 1 else OneOf(tuple(noises))


def condition(name: str) -> str:
    """The name of a test condition. Raises UserError where there is none of that name."""
    if name not in KINDS and not LEVEL.fullmatch(name):
        known = ", ".join(KINDS)
        raise UserError(f"unknown condition {name!r}, known are {known}, gain-20 (dB), dbfs-40 and the like")
    return name


def build(kind: str, rate: int, banks: NoiseConfig = NoiseConfig()) -> Noise:
    """The noise of one kind, or of a test condition. Volumes: x4 up, x0.3 down; "volume" is Kaldi's perturbation."""
    if kind == "additive":
        return Additive(
            Bank(banks.musan, rate, Additive.bank_categories(banks.categories), banks.part), banks.categories
        )
    if kind == "speech":
        return OverlappedSpeech(Bank(banks.musan, rate, ["speech"], banks.part))
    if kind == "rir":
        return Reverberation(RIRBank(banks.rirs, rate, banks.rirs_part, ROOMS, channel=banks.rir_channel))
    if kind == "real_noise":
        return Additive(Bank(banks.noises, rate, None, banks.noises_part, banks.folds))
    if kind == "real_rooms":
        return Reverberation(RIRBank(banks.rooms, rate, banks.rooms_part, (), banks.folds, banks.rir_channel))
    if kind == "tel":
        return Telephone(rate)
    if level := LEVEL.fullmatch(kind):
        return Level(float(level[2]), dbfs=level[1] == "dbfs")
    low, high = {"vup": (4.0, 4.0), "vdown": (0.3, 0.3), "volume": (0.125, 2.0)}[kind]
    return Volume(low, high)
