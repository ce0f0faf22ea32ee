"""Acoustic conditions by name: the noises that training draws from and those under which a recogniser is tested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from irl.noise.audio import SNRS, Additive, Noise, OneOf, OverlappedSpeech, Reverberation, Telephone, Volume
from irl.noise.bank import PARTS, Bank, RIRBank

KINDS = ("additive", "rir", "speech", "vup", "vdown", "volume", "tel")
# A noise of features instead of waveforms; it stands alone.
SPECAUGMENT = "specaugment"


@dataclass(frozen=True)
class NoiseConfig:
    """kinds: one is drawn for each noisy copy; or "specaugment" alone, which masks the copy's features instead.
    categories: of additive noise, "babble" among them by choice.

    musan, rirs: directories in the layouts of MUSAN and of RIRS_NOISES; read only if a kind needs them.
    part, rirs_part: of the files of musan and of the rooms of rirs, see `Bank`; empty for all of them.
    """

    kinds: tuple[str, ...] = ("additive",)
    categories: tuple[str, ...] = ("noise", "music")
    musan: str = ""
    rirs: str = ""
    part: str = ""
    rirs_part: str = ""

    def __post_init__(self) -> None:
        kinds = (*KINDS, SPECAUGMENT)
        for name, values, allowed in (("kinds", self.kinds, kinds), ("categories", self.categories, tuple(SNRS))):
            if not values:
                raise ValueError(f"{name} must not be empty, known are {', '.join(allowed)}")
            for value in values:
                if value not in allowed:
                    raise ValueError(f"{name}: unknown {value!r}, known are {', '.join(allowed)}")
        if SPECAUGMENT in self.kinds and len(self.kinds) > 1:
            raise ValueError(f"kinds: {SPECAUGMENT} stands alone, got {', '.join(self.kinds)}")
        for name, part in (("part", self.part), ("rirs_part", self.rirs_part)):
            if part not in ("", *PARTS):
                raise ValueError(f"{name} must be empty or one of {', '.join(PARTS)}, got {part!r}")

    @property
    def masks_features(self) -> bool:
        return self.kinds == (SPECAUGMENT,)

    def of_dev(self) -> NoiseConfig:
        """The same noise from the dev part of what is split."""
        return replace(self, part=self.part and "dev", rirs_part=self.rirs_part and "dev")

    def build(self, rate: int) -> Noise:
        """The noise of waveforms."""
        banks = (self.musan, self.rirs, self.categories, self.part, self.rirs_part)
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
) -> Noise:
    """The noise of one kind. The volumes are the table's: x4 up, x0.3 down; "volume" is Kaldi's perturbation."""
    if kind == "additive":
        return Additive(Bank(musan, rate, Additive.bank_categories(categories), part), tuple(categories))
    if kind == "speech":
        return OverlappedSpeech(Bank(musan, rate, ["speech"], part))
    if kind == "rir":
        return Reverberation(RIRBank(rirs, rate, rirs_part))
    if kind == "tel":
        return Telephone(rate)
    low, high = {"vup": (4.0, 4.0), "vdown": (0.3, 0.3), "volume": (0.125, 2.0)}[kind]
    return Volume(low, high)
