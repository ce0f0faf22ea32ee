"""Acoustic noises (law 1): draw(keys, lens, speakers) -> params, apply(waves, lens, params) -> new waves, and
describe(params) -> a text that says which noise the first row got.

Waves are float32 (N, T) with lens (N,); samples past a row's length are padding and stay zero. Draws come from `Keys`
alone. Rows are processed one by one: on a CPU that beats batches, which are bound by page faults. SNR is the ratio of
mean powers over valid samples, the clean signal at unit gain (as in Kaldi's wav-reverberate with --normalize-output
false). A silent clean row has no SNR and stays as it is. A clip that is silent from its offset on, as many are that are
padded to a common length, begins where it sounds again.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.core.rng import Keys
from irl.noise.bank import Bank, Clip, RIRBank
from irl.noise.convolution import Spectrum, reverberate, spectrum
from irl.noise.snr import SNRS, Snrs, add_at_snr, as_snrs, draw_snrs

Category = Literal["noise", "music", "babble"]
TALKERS = (3, 7)


class Noise(Protocol):
    """What every acoustic noise offers. speakers: of each row, so that overlapped speech is by somebody else."""

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str]) -> Any: ...

    def apply(self, waves: Tensor, lens: Tensor, params: Any) -> Tensor: ...

    def describe(self, params: Any) -> str: ...


def per_row(waves: Tensor, lens: Tensor, function: Any) -> Tensor:
    """A new tensor, zero on padding, into whose row i function(i, valid samples of row i, out) writes its result. The
    input is not written."""
    x = waves.numpy()
    y = np.empty_like(x)
    for i, n in enumerate(lens.tolist()):
        function(i, x[i, :n], y[i, :n])
        y[i, n:] = 0
    return torch.from_numpy(y)


class Mixed(NamedTuple):
    """What to add to each of N rows: clips (N, M) by index, -1 for none, offsets (N, M) in samples, snr (N,) in dB."""

    category: list[str]
    clips: Tensor
    offsets: Tensor
    snr: Tensor


class _FromBank:
    """Noises that add clips of a bank."""

    bank: Bank

    def _offsets(self, fractions: Tensor, category: str, clips: Tensor) -> Tensor:
        frames = torch.tensor([clip.frames for clip in self.bank.clips[category]])
        return (fractions * frames[clips.clamp(min=0)]).long()

    def apply(self, waves: Tensor, lens: Tensor, params: Mixed) -> Tensor:
        def mix(i: int, x: np.ndarray, out: np.ndarray) -> None:
            clips = self.bank.clips[params.category[i]]
            chosen = [(int(c), int(o)) for c, o in zip(params.clips[i], params.offsets[i]) if c >= 0]
            segments = [self._sounding(clips[c], o, len(x)) for c, o in chosen]
            if len(segments) > 1:
                # Babble: talkers at equal power, or the loudest recording would be the only one heard.
                segments = [s / np.sqrt(max(float(np.dot(s, s)), 1e-20)) for s in segments]
            add_at_snr(x, sum(segments[1:], segments[0]), float(params.snr[i]), out)

        return per_row(waves, lens, mix)

    def describe(self, params: Mixed) -> str:
        clips, rate = self.bank.clips[params.category[0]], self.bank.rate
        chosen = [(clips[int(c)].path, int(o)) for c, o in zip(params.clips[0], params.offsets[0]) if c >= 0]
        heard = " + ".join(f"{path.relative_to(self.bank.root)} from {o / rate:.2f} s" for path, o in chosen)
        return f"{params.category[0]} {heard} at {float(params.snr[0]):g} dB"

    def _sounding(self, clip: Clip, offset: int, length: int) -> np.ndarray:
        found = self.bank.segment(clip, offset, length)
        # Most clips sound from the first samples on, and to look at all of them takes as long as two sums of squares.
        return (
            found
            if found[:1000].any() or found.any()
            else self.bank.segment(clip, self.bank.onset(clip, offset), length)
        )


@dataclass(frozen=True)
class Additive(_FromBank):
    """Noise, music or babble from a bank: a category with equal probability, a clip, an offset and an SNR.

    categories: () is all of the bank's, but "speech". "babble" adds several different clips of the category "speech";
    talkers: the least and the most. snrs: (), one of Kaldi's for the category, and those of "noise" for other names.

    Raises UserError for a category that the bank was not given.
    """

    bank: Bank
    categories: tuple[str, ...] = ()
    snrs: Snrs = ()
    talkers: tuple[int, int] = TALKERS

    def __post_init__(self) -> None:
        categories = self.categories or tuple(c for c in self.bank.clips if c != "speech")
        object.__setattr__(self, "categories", categories)
        if self.snrs != ():
            object.__setattr__(self, "snrs", as_snrs(self.snrs))
        known = [*self.bank.clips, *(["babble"] if "speech" in self.bank.clips else [])]
        for category in categories:
            if category not in known:
                raise UserError(f"{self.bank.root}: no category {category!r} in this bank, it has {', '.join(known)}")
        if not categories:
            raise UserError(
                f"{self.bank.root}: the bank has speech alone; for several talkers name the category 'babble'"
            )

    @staticmethod
    def bank_categories(categories: Sequence[str]) -> list[str]:
        return ["speech" if c == "babble" else c for c in categories]

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> Mixed:
        n, (least, most) = len(lens), self.talkers
        which = keys.sub("category").integers(1, len(self.categories))[:, 0].tolist()
        names = [self.categories[w] for w in which]
        snr = draw_snrs(keys, [self.snrs or SNRS.get(name, SNRS["noise"]) for name in names])
        talkers = least + keys.sub("talkers").integers(1, most - least + 1)
        order = keys.sub("clip").uniform(most)
        fractions = keys.sub("offset").uniform(most)
        clips = torch.full((n, most), -1, dtype=torch.int64)
        offsets = torch.zeros(n, most, dtype=torch.int64)
        for i, name in enumerate(names):
            category = "speech" if name == "babble" else name
            available = len(self.bank.clips[category])
            wanted = min(int(talkers[i]), available) if name == "babble" else 1
            # Distinct clips: each further one is drawn among those left, counted from the one before.
            left = torch.arange(available)
            for j in range(wanted):
                pick = int(order[i, j] * len(left))
                clips[i, j] = left[pick]
                left = torch.cat([left[:pick], left[pick + 1 :]])
            offsets[i] = self._offsets(fractions[i], category, clips[i])
        return Mixed(["speech" if name == "babble" else name for name in names], clips, offsets, snr)


@dataclass(frozen=True)
class OverlappedSpeech(_FromBank):
    """One other talker over the whole utterance, at one of the SNRs with equal probability; never the same speaker."""

    bank: Bank
    snrs: Snrs = (10.0, 5.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "snrs", as_snrs(self.snrs))
        if "speech" not in self.bank.clips:
            raise UserError(
                f"{self.bank.root}: no category 'speech' in this bank; of any folder of talkers it is made by "
                "Bank(folder, rate, {'speech': '.'})"
            )

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> Mixed:
        talkers = [clip.speaker for clip in self.bank.clips["speech"]]
        picks = keys.sub("clip").uniform(1)[:, 0].tolist()
        clips = torch.empty(len(lens), 1, dtype=torch.int64)
        for i, speaker in enumerate(speakers or [""] * len(lens)):
            others = [j for j, talker in enumerate(talkers) if talker != speaker]
            if not others:
                raise UserError(
                    f"{self.bank.root / 'speech'}: nobody but {speaker} speaks there, somebody else is needed"
                )
            clips[i, 0] = others[int(picks[i] * len(others))]
        offsets = self._offsets(keys.sub("offset").uniform(1), "speech", clips)
        return Mixed(["speech"] * len(lens), clips, offsets, draw_snrs(keys, [self.snrs] * len(lens)))


@dataclass(frozen=True)
class Reverberation:
    """A room impulse response for every row: a group of rooms with equal probability, then one of its responses."""

    bank: RIRBank

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> list[Any]:
        groups = list(self.bank.paths.values())
        group = keys.sub("group").integers(1, len(groups))[:, 0].tolist()
        index = keys.sub("rir").uniform(1)[:, 0].tolist()
        return [groups[g][int(u * len(groups[g]))] for g, u in zip(group, index)]

    def apply(self, waves: Tensor, lens: Tensor, params: list[Any]) -> Tensor:
        return per_row(waves, lens, lambda i, x, out: reverberate(x, _spectrum(self.bank, params[i]), out))

    def describe(self, params: list[Any]) -> str:
        return str(params[0].relative_to(self.bank.root))


@functools.lru_cache(maxsize=1024)
def _spectrum(bank: RIRBank, path: Any) -> Spectrum:
    return spectrum(bank.get(path))


@dataclass(frozen=True)
class OneOf:
    """One of several noises for each row, with equal probability."""

    noises: tuple[Noise, ...]

    def draw(self, keys: Keys, lens: Tensor, speakers: Sequence[str] = ()) -> list[tuple[Tensor, Any]]:
        """For each noise the rows that get it and their params. A row's draws do not depend on the other rows."""
        which = keys.sub("kind").integers(1, len(self.noises))[:, 0]
        drawn = []
        for j, noise in enumerate(self.noises):
            rows = (which == j).nonzero()[:, 0]
            names = [speakers[i] for i in rows.tolist()] if speakers else ()
            drawn.append((rows, noise.draw(replace(keys, ids=keys.ids[rows]).sub(str(j)), lens[rows], names)))
        return drawn

    def apply(self, waves: Tensor, lens: Tensor, params: list[tuple[Tensor, Any]]) -> Tensor:
        y = torch.empty_like(waves)
        for noise, (rows, drawn) in zip(self.noises, params):
            if len(rows):
                y[rows] = noise.apply(waves[rows], lens[rows], drawn)
        return y

    def describe(self, params: list[tuple[Tensor, Any]]) -> str:
        return next(noise.describe(own) for noise, (rows, own) in zip(self.noises, params) if 0 in rows)
