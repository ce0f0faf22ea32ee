"""Kaldi data directories: wav.scp, text, utt2spk and, where recordings are cut, segments.

Files are sorted by id as by `LC_ALL=C sort`, one entry a line. What is wrong is one UserError that names file and key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping

import numpy as np

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.text_files import read_text
from irl.data.audio import audio_info, read_audio

# Seconds that a segment may reach beyond its recording, as rounded times do.
SEGMENT_TOLERANCE = 0.1
# Seconds that no recording lasts, 30 years.
LONGEST = 1e9


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance. wav: an entry of wav.scp: a path, `archive.ark:offset`, or a command ending in a pipe.

    start, end: seconds within the recording, None for the whole of it. text: None where none was asked for.
    """

    id: str
    wav: str
    speaker: str
    text: str | None = None
    start: float | None = None
    end: float | None = None


def read_table(path: Path) -> dict[str, str]:
    """A Kaldi table `key value...`; refuses missing files, duplicate and unsorted keys, and undecodable text."""
    # Not splitlines(), which also breaks at characters that a transcript may hold.
    lines = read_text(path).removesuffix("\n").split("\n")
    table: dict[str, str] = {}
    last = b""
    for number, line in enumerate(lines if lines != [""] else [], 1):
        key, value = (*line.split(maxsplit=1), "", "")[:2]
        if not key:
            raise UserError(f"{path}:{number}: empty line, expected `<id> <value>`")
        if "/" in key:
            raise UserError(f"{path}:{number}: id {key} has a slash; ids become file names")
        if key in table:
            raise UserError(f"{path}:{number}: duplicate id {key}")
        if key.encode() < last:
            raise UserError(f"{path}:{number}: id {key} is out of order; sort the file with LC_ALL=C sort")
        last = key.encode()
        table[key] = value.strip()
    if not table:
        raise UserError(f"{path}: empty file, expected one `<id> <value>` a line")
    return table


def write_table(path: Path, table: Mapping[str, str]) -> None:
    """Write a table sorted as Kaldi wants it."""
    atomic_io.write(path, "".join(f"{key} {table[key]}\n" for key in sorted(table, key=str.encode)))


def _same_keys(a_path: Path, a: Iterable[str], b_path: Path, b: Iterable[str]) -> None:
    a, b = set(a), set(b)
    for keys, have, lack in ((a - b, a_path, b_path), (b - a, b_path, a_path)):
        if keys:
            raise UserError(f"{lack}: lacks {len(keys)} of the ids of {have}, the first is {min(keys)}")


# A recording, and start and end in seconds; both None for the whole of it.
Place = tuple[str, float | None, float | None]


def read_segments(path: Path, wavs: Mapping[str, str]) -> dict[str, Place]:
    """Where each utterance lies. wavs: the recordings there are."""
    segments: dict[str, Place] = {}
    for key, value in read_table(path).items():
        try:
            recording, begin, stop = value.split()
            start, end = float(begin), float(stop)
        except ValueError:
            raise UserError(f"{path}: {key}: expected `<recording> <start> <end>`, found {value!r}") from None
        if recording not in wavs:
            raise UserError(f"{path}: {key}: recording {recording} is not in wav.scp")
        if not 0 <= start < end < LONGEST:
            raise UserError(f"{path}: {key}: expected 0 <= start < end, found {begin} and {stop}")
        segments[key] = (recording, start, end)
    return segments


def read_speakers(path: Path) -> dict[str, str]:
    """The speaker of each utterance, one word that can name a folder."""
    speakers = read_table(path)
    for key, speaker in speakers.items():
        if len(speaker.split()) != 1:
            raise UserError(f"{path}: {key}: expected `<id> <speaker>`, found {speaker!r} for the speaker")
        if "/" in speaker or speaker in (".", ".."):
            raise UserError(f"{path}: {key}: speaker {speaker!r} cannot name a folder, which speakers do")
    return speakers


def read_data_dir(path: Path | str, need_text: bool = True, allow_pipes: bool = False) -> list[Utterance]:
    """The utterances of a data directory in sorted order. Raises UserError for whatever is missing or inconsistent.

    allow_pipes: take wav.scp entries that are shell commands; they run when audio is read, so trust the directory.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such data directory")
    wavs = read_table(path / "wav.scp")
    for key, wav in wavs.items():
        if not wav:
            raise UserError(f"{path / 'wav.scp'}: {key} has no path")
        if "|" in wav and not allow_pipes:
            raise UserError(
                f"{path / 'wav.scp'}: {key} is a shell command; allow it with --allow-pipes (run.sh: "
                "--allow-pipes true; a configuration: allow_pipes=true)"
            )
    cut = (path / "segments").exists()
    id_path = path / ("segments" if cut else "wav.scp")
    places = read_segments(id_path, wavs) if cut else {key: (key, None, None) for key in wavs}
    speakers = read_speakers(path / "utt2spk")
    _same_keys(id_path, places, path / "utt2spk", speakers)
    texts: Mapping[str, str | None] = dict.fromkeys(places)
    if need_text:
        texts = read_table(path / "text")
        _same_keys(id_path, places, path / "text", texts)
        empty = [key for key, text in texts.items() if not text]
        if empty:
            others = f", nor have {len(empty) - 1} others" if len(empty) > 1 else ""
            raise UserError(f"{path / 'text'}: {empty[0]} has no text{others}")
        # Whatever separates words is one space: a no-break space is no token of its own.
        texts = {key: " ".join((text or "").split()) for key, text in texts.items()}
    return [Utterance(key, wavs[place[0]], speakers[key], texts[key], *place[1:]) for key, place in places.items()]


def write_data_dir(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, text and utt2spk of utterances that are whole files. Raises UserError for an id that occurs
    twice."""
    utterances = list(utterances)
    for key, times in Counter(u.id for u in utterances).items():
        if times > 1:
            raise UserError(f"{path}: {times} utterances have the id {key}, expected each id once")
    write_table(path / "wav.scp", {u.id: u.wav for u in utterances})
    write_table(path / "utt2spk", {u.id: u.speaker for u in utterances})
    if all(u.text is not None for u in utterances):
        write_table(path / "text", {u.id: u.text or "" for u in utterances})


def read_wave(utterance: Utterance, rate: int) -> np.ndarray:
    """float32 (n,) in [-1, 1]. Raises UserError naming the utterance for what cannot be used as it is."""
    where, start, end = f"utterance {utterance.id} ({utterance.wav})", utterance.start, utterance.end
    part = () if start is None or end is None else (round(start * rate), round(end * rate))
    x = read_audio(utterance.wav, rate, *part, kaldi=True, where=where)
    if not len(x):
        raise UserError(f"{where}: no samples")
    if start is not None and end is not None:
        missing = end - start - len(x) / rate
        if missing > SEGMENT_TOLERANCE:
            raise UserError(f"{where}: the recording ends {missing:.2f} s before the segment does")
    return x


def num_samples(path: Path | str, utterances: list[Utterance], rate: int) -> dict[str, int]:
    """Length of every utterance, from utt2num_samples where `irl validate` wrote it, otherwise from the audio."""
    table = Path(path) / "utt2num_samples"
    if table.exists():
        try:
            counts = {key: int(value) for key, value in read_table(table).items()}
        except ValueError as error:
            raise UserError(f"{table}: expected `<id> <number of samples>`: {error}; run irl validate again") from None
        empty = [key for key, count in counts.items() if count < 1]
        if empty:
            raise UserError(f"{table}: {empty[0]} has no samples; run irl validate again")
        _same_keys(table, counts, Path(path) / "utt2spk", (u.id for u in utterances))
        return counts
    counts = {}
    for u in utterances:
        if u.start is not None and u.end is not None:
            counts[u.id] = round((u.end - u.start) * rate)
        elif Path(u.wav).is_file():
            counts[u.id] = audio_info(u.wav, where=f"utterance {u.id} ({u.wav})").frames
        else:
            counts[u.id] = len(read_wave(u, rate))
    return counts
