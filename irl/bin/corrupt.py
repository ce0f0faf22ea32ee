"""Write a noisy copy of a data directory or folder of audio: irl corrupt DIR OUT_DIR --condition rir [--rirs DIR]

The copy is made once, as wav files that you can listen to, so every method is tested on the same samples. The noise
depends on --seed and the utterance ids alone. The file `params` lists the noise of each utterance. With --copies each
utterance is heard several times, with other draws; the file `utt2source` then tells the utterance of each copy.

A folder without wav.scp is a folder of audio, of any format, rate and number of channels, searched with all folders
below it. Its copy has the same folders and names, as wav files of one channel at --rate; an id is a path without its
suffix.
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import fields
from pathlib import Path

import torch

from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.core.rng import Keys, hash_ids
from irl.data.audio import read_audio
from irl.data.features import pad_waves
from irl.data.kaldi import Utterance, read_data_dir, read_wave, write_data_dir, write_table
from irl.noise.bank import PARTS, folder_files
from irl.speech.conditions import LEVEL, SOURCES, NoiseConfig, build, condition
from irl.speech.fingerprint import record_copy


def read_folder(source: Path, target: Path) -> list[Utterance]:
    """Every recording of a folder. Raises UserError where a copy would overwrite a recording or another copy."""
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target}: lies in the folder that is copied; expected a folder outside of {source}")
    if target.exists() and any(target.iterdir()) and not (target / "params").exists():
        raise UserError(f"{target}: a folder that irl corrupt did not make; expected a new one")
    found: dict[str, Utterance] = {}
    for path in folder_files(source, ""):
        key = path.relative_to(source).with_suffix("").as_posix()
        if key in found:
            raise UserError(f"{path}: its copy would have the name of that of {found[key].wav}")
        found[key] = Utterance(key, str(path), path.parent.name)
    target.mkdir(parents=True, exist_ok=True)
    # What marks the folder as a copy, which another run may replace.
    write_table(target / "params", {})
    return list(found.values())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="irl corrupt", description="Write a noisy copy of a data directory or of a folder of audio."
    )
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
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--copies", type=int, default=1, help="noisy copies of each utterance; more than 1 number its id"
    )
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    return parser.parse_args()


def main() -> None:
    import soundfile

    args = arguments()
    # Levels have headroom: they are written in floating point instead of being clipped.
    clip = not LEVEL.fullmatch(condition(args.condition))
    banks = {f.name: getattr(args, f.name) for f in fields(NoiseConfig) if f.name != "kinds"}
    noise = build(args.condition, args.rate, NoiseConfig(**banks))
    folder = args.source.is_dir() and not (args.source / "wav.scp").exists()
    if folder:
        utterances = read_folder(args.source, args.target)
    else:
        utterances = read_data_dir(args.source, allow_pipes=args.allow_pipes)
    wav = args.target if folder else args.target / "wav"
    title = f"{args.source.name} {args.condition}"
    copies, sources, params, clipped, samples, checksum = [], {}, {}, 0, 0, 0
    for u, copy in progress([(u, copy) for u in utterances for copy in range(args.copies)], title, unit="utt"):
        x = read_audio(u.wav, args.rate, any_rate=True, any_channels=True) if folder else read_wave(u, args.rate)
        if not len(x):
            raise UserError(f"{u.wav}: no samples")
        waves, lens = pad_waves([x])
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
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            soundfile.write(path, pcm, args.rate, subtype="PCM_16" if clip else "FLOAT")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: cannot be written: {error.error_string}") from None
        copies.append(type(u)(key, str(path), u.speaker, u.text))
        sources[key] = u.id
        params[key] = " ".join(str(drawn).split())
    write_table(args.target / "params", params)
    if args.copies > 1:
        write_table(args.target / SOURCES, sources)
    if not folder:
        write_data_dir(args.target, copies)
        record_copy(args.target, args.source)
    share = clipped / max(samples, 1)
    print(f"{args.target}: {len(copies)} utterances, {share:.2%} of samples at full scale, crc32 {checksum:08x}")


if __name__ == "__main__":
    run_command(main)
