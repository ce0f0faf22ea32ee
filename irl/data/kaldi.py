"""Kaldi data directories: wav.scp, text, utt2spk and, where recordings are cut, segments.

Files are sorted by id as by `LC_ALL=C sort`, one entry a line. What is wrong is one UserError that names file and key.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.text_files import read_text
from irl.data.audio import audio_info, read_audio
from irl.data.strings import Strings

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


def _lines(text: str) -> Iterator[str]:
    """One at a time: a list of a million would take as much memory again. Not splitlines(), which also breaks at
    characters that a transcript may hold."""
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        yield text[begin:end]
        begin = end + 1
    if begin < len(text):
        yield text[begin:]


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """The keys and values of a Kaldi table `key value...`; refuses missing files, duplicate and unsorted keys, and
    undecodable text."""
    last = ""
    for number, line in enumerate(_lines(read_text(path)), 1):
        key, value = (*line.split(maxsplit=1), "", "")[:2]
        if not key:
            raise UserError(f"{path}:{number}: empty line, expected `<id> <value>`")
        if "/" in key:
            raise UserError(f"{path}:{number}: id {key} has a slash; ids become file names")
        # Strings compare by code point, which is also the order of their bytes in UTF-8.
        if key <= last:
            if key == last:
                raise UserError(f"{path}:{number}: duplicate id {key}")
            raise UserError(f"{path}:{number}: id {key} is out of order; sort the file with LC_ALL=C sort")
        last = key
        yield key, value.strip()
    if not last:
        raise UserError(f"{path}: empty file, expected one `<id> <value>` a line")


def read_table(path: Path) -> dict[str, str]:
    """A Kaldi table as a dictionary. Raises UserError for what `_entries` refuses."""
    return dict(_entries(path))


def read_columns(path: Path) -> tuple[Strings, Strings]:
    """The keys and the values of a Kaldi table that may be long. Raises UserError for what `_entries` refuses."""
    keys, values = Strings(), Strings()
    for key, value in _entries(path):
        keys.append(key)
        values.append(value)
    return keys, values


def write_table(path: Path, table: Mapping[str, str]) -> None:
    """Write a table sorted as Kaldi wants it."""
    atomic_io.write(path, "".join(f"{key} {table[key]}\n" for key in sorted(table, key=str.encode)))


def _same_keys(a_path: Path, a: Strings, b_path: Path, b: Strings) -> None:
    if a == b:
        return
    ours, theirs = set(a), set(b)
    for keys, have, lack in ((ours - theirs, a_path, b_path), (theirs - ours, b_path, a_path)):
        if keys:
            raise UserError(f"{lack}: lacks {len(keys)} of the ids of {have}, the first is {min(keys)}")


class Cuts(NamedTuple):
    """Where utterances lie in recordings, a column each: number of the recording, start and end in seconds."""

    recordings: array[int]
    starts: array[float]
    ends: array[float]


def read_segments(path: Path, recordings: Strings) -> tuple[Strings, Cuts]:
    """The utterances, and where each lies. recordings: those there are."""
    number = {recording: i for i, recording in enumerate(recordings)}
    keys, values = read_columns(path)
    cuts = Cuts(array("q"), array("d"), array("d"))
    for key, value in zip(keys, values):
        try:
            recording, begin, stop = value.split()
            start, end = float(begin), float(stop)
        except ValueError:
            raise UserError(f"{path}: {key}: expected `<recording> <start> <end>`, found {value!r}") from None
        if recording not in number:
            raise UserError(f"{path}: {key}: recording {recording} is not in wav.scp")
        if not 0 <= start < end < LONGEST:
            raise UserError(f"{path}: {key}: expected 0 <= start < end, found {begin} and {stop}")
        cuts.recordings.append(number[recording])
        cuts.starts.append(start)
        cuts.ends.append(end)
    return keys, cuts


def read_speakers(path: Path) -> tuple[Strings, Strings]:
    """The utterances, and the speaker of each, one word that can name a folder."""
    keys, speakers = read_columns(path)
    for key, speaker in zip(keys, speakers):
        if len(speaker.split()) != 1:
            raise UserError(f"{path}: {key}: expected `<id> <speaker>`, found {speaker!r} for the speaker")
        if "/" in speaker or speaker in (".", ".."):
            raise UserError(f"{path}: {key}: speaker {speaker!r} cannot name a folder, which speakers do")
    return keys, speakers


def read_texts(path: Path) -> tuple[Strings, Strings]:
    """The utterances, and the text of each. Whatever separates words is one space: a no-break space is no token."""
    keys, values = read_columns(path)
    empty = [key for key, text in zip(keys, values) if not text]
    if empty:
        others = f", nor have {len(empty) - 1} others" if len(empty) > 1 else ""
        raise UserError(f"{path}: {empty[0]} has no text{others}")
    return keys, Strings(" ".join(text.split()) for text in values)


@dataclass(frozen=True)
class Utterances(Sequence[Utterance]):
    """The utterances of a data directory in sorted order, a column each: a million take some 0.3 GB, of which workers
    copy nothing. wavs: of the recordings. cuts: None where each recording is an utterance. A slice is a list."""

    ids: Strings
    wavs: Strings
    speakers: Strings
    texts: Strings | None = None
    cuts: Cuts | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        text = None if self.texts is None else self.texts[i]
        recording, *times = (i,) if self.cuts is None else (column[i] for column in self.cuts)
        return Utterance(self.ids[i], self.wavs[recording], self.speakers[i], text, *times)


def read_data_dir(path: Path | str, need_text: bool = True, allow_pipes: bool = False) -> Utterances:
    """The utterances of a data directory in sorted order. Raises UserError for whatever is missing or inconsistent.

    allow_pipes: take wav.scp entries that are shell commands; they run when audio is read, so trust the directory.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such data directory")
    recordings, wavs = read_columns(path / "wav.scp")
    for key, wav in zip(recordings, wavs):
        if not wav:
            raise UserError(f"{path / 'wav.scp'}: {key} has no path")
        if "|" in wav and not allow_pipes:
            raise UserError(
                f"{path / 'wav.scp'}: {key} is a shell command; allow it with --allow-pipes (run.sh: "
                "--allow-pipes true; a configuration: allow_pipes=true)"
            )
    cut = (path / "segments").exists()
    id_path = path / ("segments" if cut else "wav.scp")
    ids, cuts = read_segments(id_path, recordings) if cut else (recordings, None)
    keys, speakers = read_speakers(path / "utt2spk")
    _same_keys(id_path, ids, path / "utt2spk", keys)
    texts = None
    if need_text:
        keys, texts = read_texts(path / "text")
        _same_keys(id_path, ids, path / "text", keys)
    return Utterances(ids, wavs, speakers, texts, cuts)


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


def num_samples(path: Path | str, utterances: Utterances, rate: int, chosen: Sequence[int] | None = None) -> np.ndarray:
    """int64 (N,), the length of each, or of those with the chosen numbers: from utt2num_samples where `irl validate`
    wrote it, otherwise from the audio."""
    rows = range(len(utterances)) if chosen is None else chosen
    table = Path(path) / "utt2num_samples"
    if not table.exists():
        return np.array([_measure(utterances[i], rate) for i in rows])
    keys, values = read_columns(table)
    try:
        counts = np.array(array("q", map(int, values)))
    except (ValueError, OverflowError) as error:
        raise UserError(f"{table}: expected `<id> <number of samples>`: {error}; run irl validate again") from None
    if counts.min() < 1:
        raise UserError(f"{table}: {keys[int(counts.argmin())]} has no samples; run irl validate again")
    _same_keys(table, keys, Path(path) / "utt2spk", utterances.ids)
    return counts if chosen is None else counts[rows]


def _measure(u: Utterance, rate: int) -> int:
    if u.start is not None and u.end is not None:
        return round((u.end - u.start) * rate)
    if not u.wav.endswith("|") and Path(u.wav).is_file():
        return audio_info(u.wav, where=f"utterance {u.id} ({u.wav})").frames
    return len(read_wave(u, rate))
