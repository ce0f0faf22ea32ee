"""Write a noisy copy of a data directory or folder of audio: irl corrupt DIR OUT_DIR --condition rir [--rirs DIR]

The copy is made once, as wav files that you can listen to, so every method is tested on the same samples. The noise
depends on --seed and the utterance ids alone. The file `params` says what each utterance got. A second run replaces the
copy. With --copies each utterance is heard several times, with other draws; the file `utt2source` then tells the
utterance of each copy.

A folder without wav.scp is a folder of audio, of any format, rate and number of channels, searched with all folders
below it. Its copy has the same folders and names, as wav files of one channel at --rate; an id is a path without its
suffix.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from irl.core.arguments import Parser, natural, positive
from irl.core.errors import run_command
from irl.noise.bank import PARTS
from irl.speech.conditions import KINDS, NoiseConfig, condition
from irl.speech.noisy_copy import write_copy


def main() -> None:
    parser = Parser(prog="irl corrupt", description="Write a noisy copy of a data directory or of a folder of audio.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument(
        "--condition",
        required=True,
        help=f"{', '.join(KINDS)}; gain-20 (dB), dbfs-40; real_noise and real_rooms take any folder",
    )
    parser.add_argument("--musan", default="", help="bank in MUSAN's layout")
    parser.add_argument("--rirs", default="", help="bank in RIRS_NOISES' layout")
    parser.add_argument("--noises", default="", help="folder of recorded noises, for real_noise")
    parser.add_argument("--rooms", default="", help="folder of impulse responses, for real_rooms")
    parser.add_argument("--categories", nargs="+", default=["noise", "music"], help="categories of additive noise")
    for name in ("part", "rirs-part", "noises-part", "rooms-part"):
        bank = name.partition("-")[0] if "-" in name else "musan"
        parser.add_argument(f"--{name}", default="", choices=("", *PARTS), help=f"part of --{bank}; empty: all")
    parser.add_argument("--folds", default="", help="expression that finds a file's fold in its name, for the parts")
    parser.add_argument("--rir-channel", type=natural, default=0, help="channel of impulse responses that have several")
    parser.add_argument("--rate", type=positive, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--copies", type=positive, default=1, help="noisy copies of each utterance; more than 1 number its id"
    )
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    banks = NoiseConfig(**{f.name: getattr(args, f.name) for f in fields(NoiseConfig) if f.name != "kinds"})
    kind = condition(args.condition)
    print(write_copy(args.source, args.target, kind, banks, args.rate, args.seed, args.copies, args.allow_pipes))


if __name__ == "__main__":
    run_command(main)
