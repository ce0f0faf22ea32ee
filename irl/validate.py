"""Check data directories, audio included: python -m irl.validate --rate 16000 DATA_DIR ...

Reads every utterance and writes utt2num_samples, which later stages use instead of opening each file.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

from irl import command
from irl.data.kaldi import read_data_dir, read_wave, write_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.validate", description="Check Kaldi data directories.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rate", type=int, required=True, help="expected sampling rate in Hz")
    parser.add_argument("--no-text", action="store_true", help="do not ask for text")
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    for folder in args.folders:
        utterances = read_data_dir(folder, not args.no_text, args.allow_pipes)
        counts, silent = {}, 0
        for u in command.progress(utterances, f"check {folder.name}", unit="utt"):
            wave = read_wave(u, args.rate)
            counts[u.id] = str(len(wave))
            silent += not wave.any()
        write_table(folder / "utt2num_samples", counts)
        hours = math.fsum(map(int, counts.values())) / args.rate / 3600
        speakers = Counter(u.speaker for u in utterances)
        note = f", {silent} of them digital silence" if silent else ""
        print(f"{folder}: {len(utterances)} utterances{note}, {len(speakers)} speakers, {hours:.2f} h")


if __name__ == "__main__":
    command.run_command(main)
