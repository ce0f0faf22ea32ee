"""Noisy copies of data directories and of folders of audio, written once as wav files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Sequence

import numpy as np

from irl.core.errors import UserError
from irl.core.logging import progress
from irl.core.rng import Keys, hash_ids
from irl.data.audio import audio_info, read_audio, write_wav
from irl.data.features import pad_waves
from irl.data.kaldi import Utterance, read_data_dir, read_wave, write_data_dir, write_table
from irl.noise.bank import folder_files
from irl.speech.conditions import LEVEL, SOURCES, NoiseConfig, build
from irl.speech.fingerprint import record_copy


def check_target(source: Path, target: Path, folder: bool) -> None:
    """Raises UserError where a copy would overwrite its original, or what is no copy. folder: of audio."""
    original, copy = source.resolve(), target.resolve()
    if copy == original or (folder and copy.is_relative_to(original)):
        raise UserError(f"{target}: the copy would overwrite its original or lie in it; expected another folder")
    begun = any(target.iterdir()) if folder and target.is_dir() else (target / "wav.scp").exists()
    if begun and not (target / "params").exists():
        raise UserError(f"{target}: a folder that irl corrupt did not make; expected a new one")


def read_folder(source: Path) -> Sequence[Utterance]:
    """Every recording of a folder. Raises UserError where two of them differ by their suffix alone."""
    found: dict[str, Utterance] = {}
    for path in folder_files(source, ""):
        key = path.relative_to(source).with_suffix("").as_posix()
        if key in found:
            raise UserError(f"{path}: its copy would have the name of that of {found[key].wav}")
        found[key] = Utterance(key, str(path), path.parent.name)
    return list(found.values())


def write_copy(
    source: Path, target: Path, kind: str, banks: NoiseConfig, rate: int, seed: int, copies: int, allow_pipes: bool
) -> str:
    """A noisy copy, and what it is in a line. kind: a condition. seed: of the draws, with the ids of the utterances."""
    folder = source.is_dir() and not (source / "wav.scp").exists()
    check_target(source, target, folder)
    wav = target if folder else target / "wav"
    utterances: Sequence[Utterance] = read_folder(source) if folder else read_data_dir(source, allow_pipes=allow_pipes)
    for u in utterances:
        if Path(u.wav).resolve().is_relative_to(wav.resolve()):
            raise UserError(f"{u.wav}: a recording of {source}, which the copy in {target} could overwrite")
    noise, headroom = build(kind, rate, banks), LEVEL.fullmatch(kind) is not None
    # What marks the folder as a copy, which another run may replace.
    target.mkdir(parents=True, exist_ok=True)
    write_table(target / "params", {})
    noisy: list[Utterance] = []
    sources, params = {}, {}
    clipped, samples, checksum = 0, 0, 0
    asked = [(u, copy) for u in utterances for copy in range(copies)]
    for u, copy in progress(asked, f"{source.name} {kind}", unit="utt"):
        x = read_audio(u.wav, rate, any_rate=True, any_channels=True) if folder else read_wave(u, rate)
        if not len(x):
            raise UserError(f"{u.wav}: no samples")
        waves, lens = pad_waves([x])
        drawn = noise.draw(Keys(hash_ids([u.id]), seed, f"test/{kind}", copy=copy), lens, [u.speaker])
        heard = noise.apply(waves, lens, drawn)[0]
        # Levels have headroom: they are written in floating point instead of being clipped.
        y = (heard if headroom else (heard.clamp(-1, 1 - 2**-15) * 32768).round().short()).numpy()
        clipped += 0 if headroom else int(np.isin(y, (-32768, 32767)).sum())
        samples += len(y)
        checksum = zlib.crc32(y.tobytes(), checksum)
        key = f"{u.id}-{copy + 1}" if copies > 1 else u.id
        write_wav(wav / f"{key}.wav", y, rate, "FLOAT" if headroom else "PCM_16")
        noisy.append(Utterance(key, str(wav / f"{key}.wav"), u.speaker, u.text))
        sources[key], params[key] = u.id, noise.describe(drawn)
    write_table(target / "params", params)
    if copies > 1:
        write_table(target / SOURCES, sources)
    if not folder:
        write_data_dir(target, noisy)
        record_copy(target, source)
    share = clipped / max(samples, 1)
    resampled = copies * sum(audio_info(u.wav).rate != rate for u in utterances) if folder else 0
    converted = f", {resampled} of another rate resampled to {rate} Hz" if resampled else ""
    return f"{target}: {len(noisy)} utterances{converted}, {share:.2%} of samples at full scale, crc32 {checksum:08x}"
