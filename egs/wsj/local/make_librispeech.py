"""Data directories of LibriSpeech (OpenSLR 12): python local/make_librispeech.py LIBRISPEECH DIR SET ...

LIBRISPEECH is the folder that holds the unpacked parts, {part}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt and
the .flac files beside it. A SET is a part such as test-clean, or NAME=PART+PART, several together, such as
dev=dev-clean+dev-other; each becomes DIR/NAME. Audio stays where it is.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.data.kaldi import Utterance, write_data_dir

# Utterances of each part, as published.
PARTS = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}


def utterances_of(part: Path) -> list[Utterance]:
    found: list[Utterance] = []
    transcripts = sorted(part.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise UserError(f"{part}: no {{speaker}}/{{chapter}}/*.trans.txt in it")
    for path in progress(transcripts, part.name, unit="chapter"):
        audio = {p.stem for p in path.parent.glob("*.flac")}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            key, _, text = line.partition(" ")
            if not text.strip():
                raise UserError(f"{path}:{number}: expected `utterance text`, found {line!r}")
            if key not in audio:
                raise UserError(f"{path}:{number}: names {key}, but {path.parent / key}.flac is not there")
            found.append(Utterance(key, str(path.parent / f"{key}.flac"), key.partition("-")[0], text.strip()))
    repeated = [key for key, times in Counter(u.id for u in found).items() if times > 1]
    if repeated:
        raise UserError(
            f"{part}: {len(repeated)} ids are there more than once, the first is {repeated[0]}; unpack it again"
        )
    return found


def main() -> None:
    parser = Parser()
    parser.add_argument("librispeech", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="+", metavar="SET", help=f"PART or NAME=PART+PART, parts are {', '.join(PARTS)}")
    parser.add_argument("--incomplete", action="store_true", help="take other numbers of utterances than published")
    args = parser.parse_args()
    root = args.librispeech / "LibriSpeech" if (args.librispeech / "LibriSpeech").is_dir() else args.librispeech
    sets = {}
    for item in args.sets:
        name, equals, parts = item.partition("=")
        sets[name] = parts.split("+") if equals else [name]
    for part in (part for parts in sets.values() for part in parts):
        if part not in PARTS:
            raise UserError(f"{part}: no part of LibriSpeech, known are {', '.join(PARTS)}")
        if not (root / part).is_dir():
            raise UserError(f"{root / part}: no such folder; unpack {part}.tar.gz of OpenSLR 12 there")
    for name, parts in sets.items():
        utterances: list[Utterance] = []
        for part in parts:
            found = utterances_of(root / part)
            if len(found) != PARTS[part] and not args.incomplete:
                raise UserError(
                    f"{root / part}: {len(found)} utterances, {PARTS[part]} are published "
                    f"({len(found) - PARTS[part]:+d}); unpack it again, or take it as it is with --incomplete"
                )
            utterances += found
        write_data_dir(args.folder / name, utterances)
        print(f"{args.folder / name}: {len(utterances)} utterances of {len({u.speaker for u in utterances})} speakers")


if __name__ == "__main__":
    run_command(main)
