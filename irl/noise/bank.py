"""Banks of clips to add to speech, and of impulse responses: directories in the layouts of MUSAN and of RIRS_NOISES, or
any folder of audio.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Literal, Mapping, Sequence

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


def folder_files(folder: Path, part: str, folds: str = "") -> list[Path]:
    """Every audio file below any folder, sorted; with a part, that part of the files.

    Files are put in the order of a hash of their path below the folder. The last eighth is the test part, the eighth
    before it the dev part, the rest the training part; dev and test have at least one file.
    folds: a regular expression whose first group finds the name of a fold in that path, such as r"(\\d)-[^/]*$" in
    ESC-50's names. Then whole folds are split, in the order of their names: of five the last is test, the fourth dev.

    Raises UserError if the folder has no audio, a path no fold, or a part nothing to take.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = audio_files(folder, "", str)
    if not paths:
        raise UserError(f"{folder}: no audio found ({', '.join(AUDIO_SUFFIXES)})")
    if not part:
        return paths
    if part not in PARTS:
        raise UserError(f"part: expected one of {', '.join(PARTS)}, found {part!r}")
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    fold_of = {path: _fold(folds, name, path) if folds else name for path, name in names.items()}
    # Of numbers the order of their size: 2 before 10.
    order = sorted(set(fold_of.values()), key=lambda fold: (len(fold), fold) if folds else (stable_hash(fold), fold))
    if len(order) < len(PARTS):
        what = "folds" if folds else "files"
        raise UserError(f"{folder}: {len(order)} {what}; its part {part} needs at least {len(PARTS)} of them")
    share = max(1, len(order) // 8)
    bounds = {"train": (0, -2 * share), "dev": (-2 * share, -share), "test": (-share, None)}
    chosen = set(order[slice(*bounds[part])])
    return [path for path in paths if fold_of[path] in chosen]


def _fold(folds: str, name: str, path: Path) -> str:
    found = re.search(folds, name)
    if found is None or not found.groups() or found[1] is None:
        raise UserError(f"{path}: the first group of {folds!r} finds no fold in its name")
    return found[1]


class _Cached:
    """What keeps files in memory. Copies and pickles, as for worker processes that are spawned, start without them."""

    _load: Callable[[Path], np.ndarray]
    _kept: int | None  # how many files, None: all

    def _start_cache(self) -> None:
        self._cached = functools.lru_cache(maxsize=self._kept)(self._load)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_cached"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_cache()


class Bank(_Cached):
    """Clips by category, in sorted order.

    categories: names of folders; a category is every audio file below root/CATEGORY, as in MUSAN's layout. Or a mapping
    from category to folder. By default root is any folder of audio, and all that lies below it is of the category
    "noise"; {"speech": "."} makes it talkers.
    part: "train", "dev" or "test" takes only this part of the files; "" takes all. No training clip occurs in a test.
    With names of categories a hash of the file names decides; otherwise `folder_files` does, by a hash of the path
    below the folder or by `folds`.

    Raises UserError if the directory is missing, or a category has no clip, or a clip is empty.
    """

    def __init__(
        self,
        root: Path | str,
        rate: int,
        categories: Sequence[str] | Mapping[str, str] | None = None,
        part: str = "",
        folds: str = "",
    ) -> None:
        self.root, self.rate, self.part = Path(root), rate, part
        if categories is None and sum((self.root / name).is_dir() for name in ("music", "noise", "speech")) > 1:
            raise UserError(
                f"{root}: has MUSAN's layout, so name its categories, as ['noise', 'music']; all of it is ['.']"
            )
        if isinstance(categories, str):
            raise UserError(f"categories: expected a list of names, found {categories!r}")
        folders = {"noise": "."} if categories is None else categories
        self.clips: dict[str, list[Clip]] = {}
        for name in folders:
            if isinstance(folders, Mapping):
                paths = folder_files(self.root / folders[name], part, folds)
            else:
                paths = self._category(name)
            self.clips[name] = self._measure(paths)
        total = sum(clip.frames for clips in self.clips.values() for clip in clips)
        self._in_memory = total <= CACHE_SAMPLES
        self._kept = None if self._in_memory else 16
        self._start_cache()

    def _category(self, category: str) -> list[Path]:
        folder = self.root / category
        paths = audio_files(folder, self.part, lambda path: path.stem)
        if not paths:
            which = f" in its part {self.part}" if self.part else ""
            raise UserError(
                f"{folder}: no audio found ({', '.join(AUDIO_SUFFIXES)}){which}; expected a bank in MUSAN's layout, "
                f"BANK/{category}/.../*.wav; for all audio below {self.root} leave the categories out, "
                f"in irl corrupt: --condition real_noise --noises {self.root}"
            )
        return paths

    def _measure(self, paths: list[Path]) -> list[Clip]:
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
            x = self._cached(clip.path)
            if offset + length <= len(x):
                return x[offset : offset + length]
            return np.take(x, np.arange(offset, offset + length), mode="wrap")
        return read_audio(clip.path, self.rate, offset, offset + length, any_rate=True, any_channels=True)

    def onset(self, clip: Clip, offset: int) -> int:
        """The first sample from an offset on, round the end, that is within 60 dB of the clip's peak. Raises UserError
        for a clip of silence."""
        x = np.abs(self._cached(clip.path))
        loud = np.flatnonzero(x >= max(x.max() / 1000, np.finfo(np.float32).tiny))
        if not len(loud):
            raise UserError(f"{clip.path}: holds nothing but silence, so it adds no noise")
        return int(loud[np.searchsorted(loud, offset) % len(loud)])


# Sizes of rooms in RIRS_NOISES that one is drawn from with equal probability, as Kaldi's recipes do.
ROOMS = ("smallroom", "mediumroom")


class RIRBank(_Cached):
    """Room impulse responses, by group.

    sizes: groups of the simulated rooms of RIRS_NOISES, root/simulated_rirs/SIZE/ROOM/*.wav; part then splits by a hash
    of the room's name: no training room occurs in a test. The rest of RIRS_NOISES is not used: its point-source noises
    come from MUSAN, and its folder of real responses also contains noises. () takes root as any folder of responses,
    one group of all files below it, split by `folder_files`. By default it is RIRS_NOISES where root/simulated_rirs is
    there, and any folder otherwise.

    channel: which one of a response that has several; their mean would be the response of no room.

    Raises UserError if the directory is missing, or a group or part has no response.
    """

    _kept = 1024

    def __init__(
        self,
        root: Path | str,
        rate: int,
        part: str = "",
        sizes: Sequence[str] | None = None,
        folds: str = "",
        channel: int = 0,
    ) -> None:
        self.root, self.rate, self.channel = Path(root), rate, channel
        if sizes is None:
            sizes = ROOMS if (self.root / "simulated_rirs").is_dir() else ()
        self.paths: dict[str, list[Path]] = {}
        if not sizes:
            self.paths["."] = folder_files(self.root, part, folds)
            if any("pointsource_noises" in path.parts for path in self.paths["."]):
                raise UserError(f"{self.root}: holds the noises of RIRS_NOISES; give the folder of its responses alone")
        for group in sizes:
            folder = self.root / "simulated_rirs" / group
            self.paths[group] = paths = audio_files(folder, part, lambda path: path.parent.name)
            if not paths:
                which = f" in its part {part}" if part else ""
                raise UserError(
                    f"{folder}: no impulse response found{which}; expected RIRS_NOISES' layout, "
                    f"BANK/simulated_rirs/{group}/.../*.wav"
                )
        self._start_cache()

    def get(self, path: Path) -> np.ndarray:
        """The response (n,) of a file, float32."""
        return self._cached(path)

    def _load(self, path: Path) -> np.ndarray:
        x = read_audio(path, self.rate, any_rate=True, channel=self.channel)
        if not x.size or not np.abs(x).max() > 0:
            raise UserError(f"{path}: the impulse response is empty or all zeros")
        return x
