"""Transcribe recordings: irl transcribe CHECKPOINT file.wav ...

Recordings may have any format, rate and number of channels. Formats that libsndfile does not read, such as m4a and
webm, need PyAV (pip install av) or ffmpeg on PATH. Each file gives one line: its path, a tab, the text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl.core.errors import UserError, run_command
from irl.data.audio import read_audio
from irl.speech import search_options
from irl.speech.evaluate import with_tuned
from irl.speech.recogniser import Recogniser


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl transcribe", description="Transcribe recordings.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    search_options.add_arguments(parser)
    parser.add_argument("--lm", type=Path, help="checkpoint of a character LM, for shallow fusion")
    parser.add_argument("--tuned", type=Path, help="file of decoding weights, written by irl tune")
    args = parser.parse_args()
    options = search_options.from_arguments(args)
    if args.tuned is not None:
        options, _ = with_tuned(options, args.tuned)
    recogniser = Recogniser(args.checkpoint, options, args.lm)
    for path in args.files:
        wave = read_audio(path, recogniser.config.features.rate, any_rate=True, any_channels=True)
        if not len(wave):
            raise UserError(f"{path}: no samples")
        print(f"{path}\t{recogniser.text(recogniser([wave])[0][0])}", flush=True)


if __name__ == "__main__":
    run_command(main)
