"""Draw an utterance under every condition: irl spectrograms NAME=DATA_DIR ... --out FILE.png [--utterance ID]"""

from __future__ import annotations

from pathlib import Path

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.data.kaldi import read_table
from irl.speech.pictures import spectrograms


def main() -> None:
    parser = Parser(prog="irl spectrograms", description="Draw an utterance under every condition.")
    parser.add_argument("conditions", nargs="+", metavar="NAME=DATA_DIR", help="a test set and its noisy copies")
    parser.add_argument("--utterance", help="default: the first")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    folders = dict(item.partition("=")[::2] for item in args.conditions)
    if not all(folders.values()):
        raise UserError(f"command line: expected NAME=DATA_DIR, found {' '.join(args.conditions)}")
    utterance = args.utterance or next(iter(read_table(Path(next(iter(folders.values()))) / "utt2spk")))
    paths = {name: Path(folder) for name, folder in folders.items()}
    spectrograms(utterance, paths, args.out, allow_pipes=args.allow_pipes)
    print(f"{args.out}: utterance {utterance} under {', '.join(folders)}")


if __name__ == "__main__":
    run_command(main)
