"""Transcribe recordings: python -m irl.transcribe CHECKPOINT file.wav ...

Any rate and number of channels: they are brought to the model's. One line a file: its path, a tab, the text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl import command
from irl.errors import UserError
from irl.noise.bank import read_audio
from irl.tasks.beam_search import SearchOptions
from irl.tasks.recogniser import SEARCHES, Recogniser


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.transcribe", description="Transcribe recordings.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--search", choices=SEARCHES, default="joint")
    parser.add_argument("--beam", type=int, default=SearchOptions.beam)
    args = parser.parse_args()
    if args.beam < 1:
        parser.error(f"--beam must be at least 1, got {args.beam}")
    recogniser = Recogniser(args.checkpoint, args.search, SearchOptions(beam=args.beam))
    for path in args.files:
        wave = read_audio(path, recogniser.config.features.rate)
        if not len(wave):
            raise UserError(f"{path}: no samples")
        print(f"{path}\t{recogniser.text(recogniser([wave])[0][0])}", flush=True)


if __name__ == "__main__":
    command.run_command(main)
