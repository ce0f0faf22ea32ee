"""What a task needs of its training set beside the examples: python -m irl.prepare CONFIG.yaml [key=value ...]

Speech: the vocabulary, and the statistics of the features. Vision: the statistics of the colours. Language: the
vocabulary with its counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, Callable

import torch

from irl import command, files
from irl.errors import UserError
from irl.experiment import read_config


def prepare_speech(settings: Any, check: list[str]) -> str:
    from irl.data.features import LogMel
    from irl.data.kaldi import read_data_dir, read_wave
    from irl.data.vocabulary import Vocabulary

    utterances = read_data_dir(settings.train_dir, allow_pipes=settings.allow_pipes)
    vocabulary = Vocabulary.from_texts(u.text or "" for u in utterances)
    for folder in [settings.dev_dir, *check]:
        for u in read_data_dir(folder, allow_pipes=settings.allow_pipes):
            vocabulary.encode(u.text or "", f"{folder}/text: {u.id}")
    log_mel = LogMel(settings.features)
    frames, total, squares = 0, torch.zeros(settings.features.dim), torch.zeros(settings.features.dim)
    total, squares = total.double(), squares.double()
    for u in command.progress(utterances, "statistics", unit="utt"):
        x = log_mel(torch.from_numpy(read_wave(u, settings.features.rate))).double()
        frames, total, squares = frames + len(x), total + x.sum(0), squares + x.square().sum(0)
    vocabulary.write(Path(settings.vocabulary))
    # Sums, not means: law 5.
    features = dataclasses.asdict(settings.features)
    sums = {"features": features, "frames": frames, "sum": total.tolist(), "sum_of_squares": squares.tolist()}
    files.write(Path(settings.statistics), json.dumps(sums) + "\n")
    return f"{settings.vocabulary}: {len(vocabulary)} tokens; {settings.statistics}: {frames} frames"


def prepare_vision(settings: Any, check: list[str]) -> str:
    from irl.data.images import read
    from irl.noise.image import color_sums

    train = read(Path(settings.train_set))
    for path in [settings.dev_set, *check]:
        other = read(Path(path))
        for what, found, expected in (
            ("classes", other.classes, train.classes),
            ("images of size", other.images.shape[1:3], train.images.shape[1:3]),
        ):
            if found != expected:
                raise UserError(f"{path}: {what} {found}, {settings.train_set} has {expected}")
    pixels, total, products = color_sums(torch.from_numpy(train.images))
    sums = {"pixels": pixels, "sum": total.tolist(), "products": products.tolist()}
    files.write(Path(settings.statistics), json.dumps(sums) + "\n")
    return f"{settings.statistics}: {pixels} pixels of {len(train)} images"


def prepare_language(settings: Any, check: list[str]) -> str:
    from irl.data.text import WordVocabulary, words_of

    words = (word for _, word in words_of(Path(settings.train_text)))
    vocabulary = WordVocabulary.of(words, settings.min_count)
    lengths = {path: len(vocabulary.encode(Path(path))) for path in (settings.train_text, settings.dev_text, *check)}
    vocabulary.write(Path(settings.vocabulary))
    tokens = ", ".join(f"{path} {count}" for path, count in lengths.items())
    return f"{settings.vocabulary}: {len(vocabulary)} words; tokens: {tokens}"


PREPARE: dict[str, Callable[[Any, list[str]], str]] = {
    "speech": prepare_speech,
    "vision": prepare_vision,
    "language": prepare_language,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.prepare", description="Statistics of the training set.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--check", nargs="*", default=[], help="test sets that must fit the training set")
    args = parser.parse_intermixed_args()
    settings = read_config(args.config, args.overrides)
    if settings.task not in PREPARE:
        raise UserError(f"{args.config}: task {settings.task} needs nothing to be prepared")
    print(PREPARE[settings.task](settings, args.check))


if __name__ == "__main__":
    command.run_command(main)
