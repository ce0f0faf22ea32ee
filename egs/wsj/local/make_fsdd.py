"""Stage 0 of --corpus fsdd: strings of 3-5 digits joined from single recordings. python local/make_fsdd.py FSDD DIR

FSDD is a clone of the Free Spoken Digit Dataset (github.com/Jakobovski/free-spoken-digit-dataset, 8 kHz, CC BY-SA
4.0) or its folder of {digit}_{speaker}_{index}.wav. It is split by one of three rules:

- `index`: recordings 0-4 are test, as in the data set's own split, 5-9 are dev, the rest training.
- `speaker`: the last speaker in alphabetical order is test; recordings 5-9 of the others are dev, the rest training.
- `speaker:NAME`: the last speaker is test, NAME is dev, the others train: to choose settings for voices never heard.

Strings keep to one speaker. Each dev and test recording is used once; training recordings are reused in new strings.
Beside dev and test lie the same recordings one by one, as dev_words and test_words, and with pauses of two seconds, as
dev_pauses and test_pauses.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.data.audio import read_audio, write_wav
from irl.data.kaldi import Utterance, write_data_dir

RATE = 8000
WORDS = "zero one two three four five six seven eight nine".split()
# Times that each training recording is used: the corpus is small, its combinations are not.
REUSE = 3


def recordings(folder: Path) -> dict[str, list[tuple[int, int, Path]]]:
    """(digit, index, path) of every recording, by speaker."""
    folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
    found = defaultdict(list)
    for path in sorted(folder.glob("*.wav")):
        match = re.fullmatch(r"(\d)_(\w+)_(\d+)\.wav", path.name)
        if match:
            found[match[2]].append((int(match[1]), int(match[3]), path))
    if len(found) < 3:
        raise UserError(
            f"{folder}: found {len(found)} speakers, expected FSDD's recordings, {{digit}}_{{speaker}}_{{index}}.wav"
        )
    return found


def set_of(speaker: str, index: int, speakers: list[str], split: str) -> str:
    """The set of a recording by the rule `split` (see above); speakers: all, in order."""
    by, _, dev = split.partition(":")
    if by not in ("index", "speaker") or (by == "index" and dev):
        raise UserError(f"--split: expected index, speaker or speaker:NAME, found {split}")
    if dev and dev not in speakers[:-1]:
        raise UserError(f"--split {split}: expected a dev speaker among {', '.join(speakers[:-1])}")
    if by == "speaker" and speaker == speakers[-1]:
        return "test"
    if dev:
        return "dev" if speaker == dev else "train"
    if by == "index" and index < 5:
        return "test"
    return "dev" if 5 <= index < 10 else "train"


def strings(items: list[tuple[int, int, Path]], rng: random.Random) -> list[list[tuple[int, int, Path]]]:
    """Each recording once, in strings of 3-5."""
    items = list(items)
    rng.shuffle(items)
    found = []
    while items:
        count = rng.choice((3, 4, 5))
        # What is left over is never one or two.
        count = len(items) if len(items) <= 5 else min(count, len(items) - 3)
        found.append(items[:count])
        items = items[count:]
    return found


def join(parts: list[Path], rng: np.random.Generator, pause: float = 0.125) -> np.ndarray:
    """Recordings with faint noise before, between and after them, of 0.4-1.6 times `pause` seconds."""
    low, high = int(0.4 * pause * RATE), int(1.6 * pause * RATE)
    pieces = []
    for path in parts:
        x = read_audio(path, RATE, any_rate=True, any_channels=True)
        floor = max(1e-5, float(np.percentile(np.abs(x), 5)))
        pieces += [floor * rng.normal(size=rng.integers(low, high)), x]
    pieces.append(floor * rng.normal(size=rng.integers(low, high)))
    return np.concatenate(pieces)


def main() -> None:
    parser = Parser()
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="index", help="index, speaker or speaker:NAME; the default is %(default)s")
    args = parser.parse_args()
    found = recordings(args.fsdd)
    speakers = sorted(found)
    rng = random.Random(1)
    sets: dict[str, list[tuple[str, list[tuple[int, int, Path]]]]] = {"train": [], "dev": [], "test": []}
    for speaker in speakers:
        for name, rows in sets.items():
            items = [r for r in found[speaker] if set_of(speaker, r[1], speakers, args.split) == name]
            for _ in range(REUSE if name == "train" else 1):
                rows += [(speaker, string) for string in strings(items, rng) if string]
    pauses = {}
    for name in ("dev", "test"):
        sets[f"{name}_words"] = [(speaker, [item]) for speaker, string in sets[name] for item in string]
        sets[f"{name}_pauses"], pauses[f"{name}_pauses"] = sets[name], 2.0
    for name, rows in sets.items():
        wav = args.folder / "wav" / name
        utterances = []
        for i, (speaker, string) in enumerate(progress(rows, name, unit="utt")):
            key = f"{speaker}-{name}-{i:04d}"
            x = join(
                [path for _, _, path in string], np.random.default_rng([1, *key.encode()]), pauses.get(name, 0.125)
            )
            write_wav(wav / f"{key}.wav", np.clip(x, -1, 1 - 2**-15), RATE)
            text = " ".join(WORDS[digit] for digit, _, _ in string)
            utterances.append(Utterance(key, str(wav / f"{key}.wav"), speaker, text))
        write_data_dir(args.folder / name, utterances)
        print(f"{args.folder / name}: {len(rows)} strings of {len({u.speaker for u in utterances})} speakers")


if __name__ == "__main__":
    run_command(main)
