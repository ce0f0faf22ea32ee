"""Acoustic conditions by name: the noises of training and the noises of the tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Sequence, get_args

from irl.core.types import Checked, Natural, NonEmpty
from irl.noise.audio import Additive, Category, Noise, OneOf, OverlappedSpeech, Reverberation, Telephone, Volume
from irl.noise.bank import Bank, Part, RIRBank

Kind = Literal["additive", "rir", "speech", "vup", "vdown", "volume", "tel"]
KINDS = get_args(Kind)
# A noise on features instead of waveforms; it cannot be combined with other noises.
SPECAUGMENT = "specaugment"
# The bank of noises, or of rooms, that test sets are made with, where none is given.
GENERATED = "generated"


@dataclass(frozen=True)
class NoiseConfig(Checked):
    """kinds: each noisy copy draws one of these kinds; or "specaugment" alone, which masks the features of the copy.
    categories: categories of additive noise; "babble" is an option.

    musan, rirs: directories in the layouts of MUSAN and of RIRS_NOISES; read only if a kind needs them.
    part, rirs_part: part of the files of musan and of the rooms of rirs, see `Bank`; empty: all. rir_channel: which
    channel of an impulse response that has several, counted from 0.
    """

    kinds: Annotated[tuple[Literal[Kind, "specaugment"], ...], NonEmpty] = ("additive",)
    categories: Annotated[tuple[Category, ...], NonEmpty] = ("noise", "music")
    musan: str = ""
    rirs: str = ""
    part: Part = ""
    rirs_part: Part = ""
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
        return replace(self, part=self.part and "dev", rirs_part=self.rirs_part and "dev")

    def build(self, rate: int) -> Noise:
        """The noise of waveforms."""
        banks = (self.musan, self.rirs, self.categories, self.part, self.rirs_part, self.rir_channel)
        noises = [build(kind, rate, *banks) for kind in self.kinds]
        return noises[0] if len(noises) == 1 else OneOf(tuple(noises))


def build(
    kind: str,
    rate: int,
    musan: str,
    rirs: str,
    categories: Sequence[str] = ("noise", "music"),
    part: str = "",
    rirs_part: str = "",
    rir_channel: int = 0,
) -> Noise:
    """The noise of one kind. The volumes are the table's: x4 up, x0.3 down; "volume" is Kaldi's perturbation."""
    if kind == "additive":
        return Additive(Bank(musan, rate, Additive.bank_categories(categories), part), tuple(categories))
    if kind == "speech":
        return OverlappedSpeech(Bank(musan, rate, ["speech"], part))
    if kind == "rir":
        return Reverberation(RIRBank(rirs, rate, rirs_part, channel=rir_channel))
    if kind == "tel":
        return Telephone(rate)
    low, high = {"vup": (4.0, 4.0), "vdown": (0.3, 0.3), "volume": (0.125, 2.0)}[kind]
    return Volume(low, high)
