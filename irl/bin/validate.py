"""Check data: irl validate --rate 16000 DATA_DIR ..., or irl validate TRAIN.npz DEV.npz TEST.npz,
or irl validate TEXT ... [--tokens N ...]

Of Kaldi data directories every utterance is read, and utt2num_samples written, which later stages use instead of
opening each file. Of sets of images the classes are counted, and images that an earlier set of the line holds too. Of
texts the words are counted, <eos> at line ends among them.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.data import images
from irl.data.kaldi import read_data_dir, read_wave, write_table
from irl.data.text import EOS, words_of


def check_images(paths: list[Path]) -> None:
    seen: set[bytes] = set()
    for path in paths:
        found = images.read(path)
        pixels = [image.tobytes() for image in found.images]
        height, width = found.images.shape[1:3]
        sizes = Counter(found.labels.tolist())
        each = [sizes[label] for label in range(len(found.classes))]
        known = sum(image in seen for image in pixels)
        print(
            f"{path}: {len(found)} images of {width}x{height}, {len(found.classes)} classes of {min(each)} to "
            f"{max(each)} images, {known} images of the sets before it"
        )
        seen.update(pixels)


def check_texts(paths: list[Path], tokens: list[int]) -> None:
    for path, expected in zip(paths, tokens or [0] * len(paths)):
        words = [word for _, word in words_of(path)]
        if expected and len(words) != expected:
            raise UserError(f"{path}: {len(words)} tokens, {expected} are published ({len(words) - expected:+d})")
        lines, kinds = words.count(EOS), len(set(words))
        print(f"{path}: {len(words)} tokens in {lines} lines, each with its {EOS}; {kinds} different words")


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl validate", description="Check data directories, or images.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rate", type=int, help="expected sampling rate of audio in Hz")
    parser.add_argument("--tokens", type=int, nargs="*", default=[], help="expected numbers of tokens of texts")
    parser.add_argument("--no-text", action="store_true", help="do not ask for text")
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    if all(path.suffix == ".npz" for path in args.folders):
        return check_images(args.folders)
    if all(path.is_file() for path in args.folders):
        return check_texts(args.folders, args.tokens)
    if args.rate is None:
        parser.error("data directories need --rate")
    for folder in args.folders:
        utterances = read_data_dir(folder, not args.no_text, args.allow_pipes)
        counts, silent = {}, 0
        for u in progress(utterances, f"check {folder.name}", unit="utt"):
            wave = read_wave(u, args.rate)
            counts[u.id] = str(len(wave))
            silent += not wave.any()
        write_table(folder / "utt2num_samples", counts)
        hours = math.fsum(map(int, counts.values())) / args.rate / 3600
        speakers = Counter(u.speaker for u in utterances)
        note = f", {silent} of them digital silence" if silent else ""
        print(f"{folder}: {len(utterances)} utterances{note}, {len(speakers)} speakers, {hours:.2f} h")


if __name__ == "__main__":
    run_command(main)
