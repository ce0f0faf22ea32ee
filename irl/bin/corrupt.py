"""Write a noisy copy of a data directory: irl corrupt DATA_DIR OUT_DIR --condition rir [--musan DIR]

The copy is made once, as 16-bit wav files that you can listen to, so every method is tested on the same samples. The
noise depends on --seed and the utterance ids alone. The file `params` lists the noise of each utterance.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import torch

from irl.core.arguments import Parser, positive
from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.core.rng import Keys, hash_ids
from irl.data.features import pad_waves
from irl.data.kaldi import read_data_dir, read_wave, write_data_dir, write_table
from irl.noise.bank import PARTS
from irl.speech.conditions import KINDS, build


def main() -> None:
    import soundfile

    parser = Parser(prog="irl corrupt", description="Write a noisy copy of a data directory.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--condition", required=True, choices=KINDS)
    parser.add_argument("--musan", default="", help="bank in MUSAN's layout")
    parser.add_argument("--rirs", default="", help="bank in RIRS_NOISES' layout")
    parser.add_argument("--categories", nargs="+", default=["noise", "music"], help="categories of additive noise")
    for name, what in (("--part", "files of --musan"), ("--rirs-part", "rooms of --rirs")):
        parser.add_argument(name, default="", choices=("", *PARTS), help=f"part of the {what}; empty: all")
    parser.add_argument("--rate", type=positive, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    utterances = read_data_dir(args.source, allow_pipes=args.allow_pipes)
    noise = build(args.condition, args.rate, args.musan, args.rirs, args.categories, args.part, args.rirs_part)
    wav = args.target / "wav"
    wav.mkdir(parents=True, exist_ok=True)
    copies, params, clipped, samples, checksum = [], {}, 0, 0, 0
    for u in progress(utterances, f"{args.source.name} {args.condition}", unit="utt"):
        waves, lens = pad_waves([read_wave(u, args.rate)])
        keys = Keys(hash_ids([u.id]), args.seed, f"test/{args.condition}")
        drawn = noise.draw(keys, lens, [u.speaker])
        y = noise.apply(waves, lens, drawn)[0]
        y = y.clamp(-1, 1 - 2**-15)
        clipped += int(torch.isin(y, torch.tensor([-1.0, 1 - 2**-15])).sum())
        samples += len(y)
        pcm = (y * 32768).round().short().numpy()
        checksum = zlib.crc32(pcm.tobytes(), checksum)
        path = wav / f"{u.id}.wav"
        try:
            soundfile.write(path, pcm, args.rate, subtype="PCM_16")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: cannot be written: {error.error_string}") from None
        copies.append(type(u)(u.id, str(path), u.speaker, u.text))
        params[u.id] = " ".join(str(drawn).split())
    write_data_dir(args.target, copies)
    write_table(args.target / "params", params)
    share = clipped / samples
    print(f"{args.target}: {len(copies)} utterances, {share:.2%} of samples at full scale, crc32 {checksum:08x}")


if __name__ == "__main__":
    run_command(main)
