"""Checking data directories: every recording is read, and every text, before anything is made of them."""

from __future__ import annotations

import argparse
import dataclasses
import math
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterable, Iterator, Mapping

from irl.core.errors import UserError
from irl.core.fingerprint import content_fingerprint
from irl.core.logging import logger, progress
from irl.data.kaldi import Utterances, read_data_dir, read_table, read_wave, write_table
from irl.speech.config import SpeechConfig
from irl.training.registry import read_config

# Of what may be long, such as a list of bad utterances, this many are shown.
SHOWN = 20
APOSTROPHES = "'\u2019\u2018\u02bc\u00b4`\uff07"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `irl validate`."""
    parser.add_argument("--rate", type=int, required=True, help="expected sampling rate in Hz")
    parser.add_argument("--no-text", action="store_true", help="accept data directories without text")
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    parser.add_argument(
        "--config",
        nargs="+",
        metavar=("FILE", "key=value"),
        help="configuration of a training on the first directory: also check that CTC can align each text",
    )


@dataclasses.dataclass
class Found:
    """What the directories hold in common: the first directory of each speaker, and of each recording's samples."""

    speakers: dict[str, Path] = dataclasses.field(default_factory=dict)
    recordings: dict[str, tuple[Path, str]] = dataclasses.field(default_factory=dict)


def validate(args: argparse.Namespace) -> Iterator[str]:
    """Read every utterance of each data directory, and write utt2num_samples. Raises UserError after all of them, if
    any cannot be used."""
    config = None if args.config is None else read_config(Path(args.config[0]), args.config[1:])
    folders = {folder: read_data_dir(folder, not args.no_text, args.allow_pipes) for folder in args.paths}
    notes, problems = ([], []) if args.no_text else check_texts(folders)
    if config is None:  # whatever they are checked for, nothing is trained on the first
        notes, problems = [*notes, *problems], []
    for note in notes:
        logger.warning(note)
    found = Found()
    for folder, utterances in folders.items():
        counts, bad, notes = _read(folder, utterances, args.rate, found)
        if bad:
            for line in bad[:SHOWN] if len(bad) > 1 else ():
                logger.error(line)
            several = f"{folder}: {len(bad)} of {len(utterances)} utterances cannot be used, the first: "
            problems.append((several if len(bad) > 1 else "") + bad[0])
            continue
        for note in [*notes, *(_too_short(folder, utterances, counts, config) if config is not None else [])]:
            logger.warning(note)
        _write_counts(folder, counts)
        hours = math.fsum(counts.values()) / args.rate / 3600
        speakers = dict.fromkeys(u.speaker for u in utterances)
        yield (
            f"{folder}: {len(utterances)} utterances, {len(speakers)} speakers{_shared(speakers, folder, found)}, "
            f"{hours:.2f} h"
        )
    if problems:
        raise UserError("; ".join(problems))


def _read(folder: Path, utterances: Utterances, rate: int, found: Found) -> tuple[dict[str, int], list[str], list[str]]:
    """Lengths in samples by id, what is wrong with each bad utterance, and notes on silence and repetition."""
    counts: dict[str, int] = {}
    bad, silent = [], []
    known: dict[Path, list[str]] = defaultdict(list)
    for u in progress(utterances, f"check {folder.name}", unit="utt"):
        try:
            wave = read_wave(u, rate)
        except UserError as error:
            bad.append(str(error))
            continue
        counts[u.id] = len(wave)
        if not wave.any():
            silent.append(u.id)
            continue
        place, other = found.recordings.setdefault(content_fingerprint([wave.tobytes()]), (folder, u.id))
        if place != folder:
            known[place].append(f"{u.id} = {other}")
    notes = [f"{folder}: {len(silent)} utterances are digital silence: {_some(silent)}"] if silent else []
    for place, pairs in known.items():
        notes.append(f"{folder}: {len(pairs)} recordings are also in {place}: {_some(pairs)}")
    return counts, bad, notes


def _some(items: Iterable[str]) -> str:
    items = list(items)
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _shared(speakers: Iterable[str], folder: Path, found: Found) -> str:
    """Which speakers an earlier directory has too."""
    shared: dict[Path, list[str]] = defaultdict(list)
    for speaker in speakers:
        place = found.speakers.setdefault(speaker, folder)
        if place != folder:
            shared[place].append(speaker)
    texts = [f"{len(names)} also in {place}: {_some(names)}" for place, names in shared.items()]
    return f" ({'; '.join(texts)})" if texts else ""


def _write_counts(folder: Path, counts: dict[str, int]) -> None:
    """utt2num_samples, unless it is there, or the directory may only be read and has none."""
    path, table = folder / "utt2num_samples", {key: str(count) for key, count in counts.items()}
    if path.exists() and read_table(path) == table:
        return
    try:
        write_table(path, table)
    except UserError as error:
        if path.exists():
            raise
        logger.warning(f"{error}; each later stage takes the lengths from the recordings")


def _too_short(folder: Path, utterances: Utterances, counts: dict[str, int], config: SpeechConfig) -> Iterator[str]:
    """CTC emits one character a frame, and a blank between two that are alike."""
    short = []
    for u in utterances if config.ctc_weight > 0 else ():
        frames, text = config.features.frames(counts[u.id]), u.text or ""
        for factor in config.model.subsampling:
            frames = -(-frames // factor)
        needed = len(text) + sum(a == b for a, b in zip(text, text[1:]))
        if frames < needed:
            short.append(f"{u.id} ({frames} frames, needs {needed})")
    if short:
        yield f"{folder}: {len(short)} utterances have no CTC alignment, and CTC learns nothing of them: {_some(short)}"


def check_texts(folders: dict[Path, Utterances]) -> tuple[list[str], list[str]]:
    """(notes, problems) of the characters of the texts. The first directory is the one to train on: a character of
    another that it has not is a problem, for its vocabulary will not have it."""
    train = next(iter(folders))
    # Which utterances have a character, by directory.
    users: dict[Path, dict[str, list[str]]] = {folder: defaultdict(list) for folder in folders}
    for folder, utterances in folders.items():
        for u in utterances:
            for character in set(u.text or ""):
                users[folder][character].append(u.id)
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for folder, found in users.items():
        for character, ids in found.items():
            counts[character] += len(ids)
            first.setdefault(character, f"{folder} {ids[0]}")

    def listed(characters: Iterable[str], where: Mapping[str, str]) -> str:
        return _some(f"{_name(c)} in {where[c]}" for c in sorted(characters))

    notes, problems = [], []
    invisible = [c for c in counts if unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co") or "\ufe00" <= c <= "\ufe0f"]
    if invisible:
        notes.append(f"text: characters that cannot be seen: {listed(invisible, first)}")
    kinds = [c for c in APOSTROPHES if counts[c]]
    if len(kinds) > 1:
        listing = ", ".join(f"{_name(c)} in {counts[c]}" for c in kinds)
        notes.append(f"text: {len(kinds)} kinds of apostrophe: {listing} texts")
    notes += _normal_forms(folders, {c for c in counts if len(unicodedata.normalize("NFD", c)) > 1})
    once = {c: ids[0] for c, ids in users[train].items() if len(ids) == 1}
    if once:
        notes.append(f"{train}/text: characters of a single utterance: {listed(once, once)}")
    for folder, found in users.items():
        unknown = {c: ids[0] for c, ids in found.items() if c not in users[train]}
        if unknown:
            problems.append(f"{folder}/text: characters that {train} does not have: {listed(unknown, unknown)}")
    return notes, problems


def _name(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'without a name').lower()})"


def _normal_forms(folders: dict[Path, Utterances], whole: set[str]) -> list[str]:
    """whole: the characters that are a letter and its mark in one, which in other texts are two: two spellings."""
    texts = [(f"{folder} {u.id}", u.text or "") for folder, utterances in folders.items() for u in utterances]
    split = [place for place, text in texts if not unicodedata.is_normalized("NFC", text)]
    composed = [place for place, text in texts if split and not whole.isdisjoint(text)]
    if not composed:
        return []
    return [
        f"text: letters with marks are one character (NFC) in {len(composed)} texts, such as {composed[0]}, and two "
        f"(NFD) in {len(split)}, such as {split[0]}; write all in one form"
    ]
