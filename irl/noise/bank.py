"""Banks of clips to add to speech: directories in MUSAN's layout, and of impulse responses in RIRS_NOISES' layout."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Literal, Sequence

import numpy as np

from irl.core.errors import UserError
from irl.core.fingerprint import stable_hash
from irl.data.audio import AUDIO_SUFFIXES, audio_info, read_audio

# Clips of banks up to this many samples in all stay in memory; larger banks are read from disk segment by segment.
CACHE_SAMPLES = 256 * 2**20 // 4


@dataclass(frozen=True)
class Clip:
    """One file. frames: its length in samples at the bank's rate. speaker: the name of its folder."""

    path: Path
    frames: int
    speaker: str


# Shares of a bank's files in its parts, in sixteenths.
PARTS = {"train": range(0, 12), "dev": range(12, 14), "test": range(14, 16)}
Part = Literal["", "train", "dev", "test"]  # "" is all of them


def audio_files(folder: Path, part: str, split_by: Callable[[Path], str]) -> list[Path]:
    """Every audio file below a folder, sorted; with a part, the files whose hash of split_by(path) falls into it."""
    paths = sorted(p for p in _files(folder, set()) if p.suffix.lower() in AUDIO_SUFFIXES)
    return [p for p in paths if not part or stable_hash(split_by(p)) % 16 in PARTS[part]]


def _files(folder: Path, within: set[str]) -> Iterator[Path]:
    """Every file below a folder, also behind links to folders, unless a link leads back to a folder that holds it."""
    own = os.path.realpath(folder)
    if own in within or not os.path.isdir(own):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(folder / entry.name, within | {own})
            else:
                yield folder / entry.name


class Bank:
    """Clips by category: every audio file below root/CATEGORY, in sorted order.

    part: "train", "dev" or "test" takes only this part of the files; "" takes all. A hash of the file names decides, so
    no training clip occurs in a test.

    Raises UserError if the directory is missing, or a category has no clip, or a clip is empty.
    """

    def __init__(self, root: Path | str, rate: int, categories: Sequence[str], part: str = "") -> None:
        self.root, self.rate, self.part = Path(root), rate, part
        self.clips: dict[str, list[Clip]] = {category: self._find(category) for category in categories}
        total = sum(clip.frames for clips in self.clips.values() for clip in clips)
        self._whole = functools.lru_cache(maxsize=None if total <= CACHE_SAMPLES else 16)(self._load)
        self._in_memory = total <= CACHE_SAMPLES

    def _find(self, category: str) -> list[Clip]:
        folder = self.root / category
        paths = audio_files(folder, self.part, lambda path: path.stem)
        if not paths:
            which = f" in its part {self.part}" if self.part else ""
            raise UserError(
                f"{folder}: no audio found ({', '.join(AUDIO_SUFFIXES)}){which}; expected a bank in MUSAN's layout, "
                f"BANK/{category}/.../*.wav"
            )
        clips = []
        for path in paths:
            info = audio_info(path)
            if info.frames == 0:
                raise UserError(f"{path}: holds no samples")
            clips.append(Clip(path, info.frames * self.rate // info.rate, path.parent.name))
        return clips

    def _load(self, path: Path) -> np.ndarray:
        return read_audio(path, self.rate, any_rate=True, any_channels=True)

    def segment(self, clip: Clip, offset: int, length: int) -> np.ndarray:
        """length samples of a clip from an offset in [0, frames); a clip that ends before is begun again."""
        if self._in_memory or clip.frames < offset + length:
            x = self._whole(clip.path)
            if offset + length <= len(x):
                return x[offset : offset + length]
            return np.take(x, np.arange(offset, offset + length), mode="wrap")
        return read_audio(clip.path, self.rate, offset, offset + length, any_rate=True, any_channels=True)


# Sizes of rooms in RIRS_NOISES that one is drawn from with equal probability, as Kaldi's recipes do.
ROOMS = ("smallroom", "mediumroom")


class RIRBank:
    """Simulated impulse responses, root/simulated_rirs/SIZE/ROOM/*.wav, by size.

    The rest of RIRS_NOISES is not used: its point-source noises come from MUSAN, and its folder of real responses also
    contains noises.
    part: as in `Bank`, but by room: no training room occurs in a test. channel: which one of a response that has
    several; their mean would be the response of no room.
    """

    def __init__(
        self, root: Path | str, rate: int, part: str = "", sizes: Sequence[str] = ROOMS, channel: int = 0
    ) -> None:
        self.root, self.rate, self.channel = Path(root), rate, channel
        self.paths: dict[str, list[Path]] = {}
        for group in sizes:
            folder = self.root / "simulated_rirs" / group
            self.paths[group] = paths = audio_files(folder, part, lambda path: path.parent.name)
            if not paths:
                which = f" in its part {part}" if part else ""
                raise UserError(
                    f"{folder}: no impulse response found{which}; expected RIRS_NOISES' layout, "
                    f"BANK/simulated_rirs/{group}/.../*.wav"
                )
        self.get = functools.lru_cache(maxsize=1024)(self._load)

    def _load(self, path: Path) -> np.ndarray:
        x = read_audio(path, self.rate, any_rate=True, channel=self.channel)
        if not x.size or not np.abs(x).max() > 0:
            raise UserError(f"{path}: the impulse response is empty or all zeros")
        return x
