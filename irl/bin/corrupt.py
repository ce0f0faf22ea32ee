"""Write a noisy copy of a data directory: irl corrupt DATA_DIR OUT_DIR --condition rir [--musan DIR]

The copy is made once, as wav files that you can listen to, so every method is tested on the same samples. The noise
depends on --seed and the utterance ids alone. The file `params` lists the noise of each utterance. With --copies each
utterance is heard several times, with other draws; the file `utt2source` then tells the utterance of each copy.
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Iterable

import torch

from irl.core import atomic_io
from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.core.rng import Keys, hash_ids
from irl.data.features import pad_waves
from irl.data.kaldi import read_data_dir, read_wave, write_data_dir, write_table
from irl.noise.bank import PARTS
from irl.speech.conditions import LEVEL, SOURCES, NoiseConfig, build, condition


def check_target(source: Path, target: Path, wavs: Iterable[str]) -> None:
    """Raises UserError where the copy would overwrite recordings, or a data directory that is no copy."""
    if target.resolve() == source.resolve():
        raise UserError(f"{target}: the copy would overwrite its original; expected another directory")
    if (target / "wav.scp").exists() and not (target / "params").exists():
        raise UserError(f"{target}: a data directory that irl corrupt did not make; expected a new directory")
    wav = (target / "wav").resolve()
    for path in wavs:
        if Path(path).resolve().is_relative_to(wav):
            raise UserError(f"{path}: a recording of {source}, which the copy in {target} could overwrite")


def main() -> None:
    import soundfile

    parser = argparse.ArgumentParser(prog="irl corrupt", description="Write a noisy copy of a data directory.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--condition", required=True, help="additive, rir, ..., gain-20, dbfs-40")
    parser.add_argument("--musan", default="", help="bank in MUSAN's layout")
    parser.add_argument("--rirs", default="", help="bank in RIRS_NOISES' layout")
    parser.add_argument("--noises", default="", help="folder of recorded noises, for real_noise")
    parser.add_argument("--rooms", default="", help="folder of impulse responses, for real_rooms")
    parser.add_argument("--categories", nargs="+", default=["noise", "music"], help="categories of additive noise")
    for name in ("part", "rirs-part", "noises-part", "rooms-part"):
        bank = name.partition("-")[0] if "-" in name else "musan"
        parser.add_argument(f"--{name}", default="", choices=("", *PARTS), help=f"part of --{bank}; empty: all")
    parser.add_argument("--folds", default="", help="expression that finds a file's fold in its name, for the parts")
    parser.add_argument("--rir-channel", type=int, default=0, help="channel of impulse responses that have several")
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--copies", type=int, default=1, help="noisy copies of each utterance; more than 1 number its id"
    )
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    # Levels have headroom: they are written in floating point instead of being clipped.
    clip = not LEVEL.fullmatch(condition(args.condition))
    utterances = read_data_dir(args.source, allow_pipes=args.allow_pipes)
    banks = {f.name: getattr(args, f.name) for f in fields(NoiseConfig) if f.name != "kinds"}
    noise = build(args.condition, args.rate, NoiseConfig(**banks))
    check_target(args.source, args.target, (u.wav for u in utterances))
    wav = args.target / "wav"
    title = f"{args.source.name} {args.condition}"
    copies, sources, params, clipped, samples, checksum = [], {}, {}, 0, 0, 0
    for u, copy in progress([(u, copy) for u in utterances for copy in range(args.copies)], title, unit="utt"):
        waves, lens = pad_waves([read_wave(u, args.rate)])
        keys = Keys(hash_ids([u.id]), args.seed, f"test/{args.condition}", copy=copy)
        drawn = noise.draw(keys, lens, [u.speaker])
        y = noise.apply(waves, lens, drawn)[0]
        y = y.clamp(-1, 1 - 2**-15) if clip else y
        clipped += int(torch.isin(y, torch.tensor([-1.0, 1 - 2**-15])).sum())
        samples += len(y)
        pcm = (y * 32768).round().short().numpy() if clip else y.numpy()
        checksum = zlib.crc32(pcm.tobytes(), checksum)
        key = f"{u.id}-{copy + 1}" if args.copies > 1 else u.id
        path = wav / f"{key}.wav"
        try:
            with atomic_io.replacing(path, sync=False) as temporary:
                soundfile.write(temporary, pcm, args.rate, subtype="PCM_16" if clip else "FLOAT", format="WAV")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: cannot be written: {error.error_string}") from None
        copies.append(type(u)(key, str(path), u.speaker, u.text))
        sources[key] = u.id
        params[key] = " ".join(str(drawn).split())
    # First what marks the directory as a copy, which another run may replace.
    write_table(args.target / "params", params)
    write_data_dir(args.target, copies)
    if args.copies > 1:
        write_table(args.target / SOURCES, sources)
    share = clipped / samples
    print(f"{args.target}: {len(copies)} utterances, {share:.2%} of samples at full scale, crc32 {checksum:08x}")


if __name__ == "__main__":
    run_command(main)
