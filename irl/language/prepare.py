"""Vocabulary of a training text; checking texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterator, Sequence

from irl.core.errors import UserError
from irl.core.fingerprint import content_fingerprint, file_fingerprint, record_inputs, remembered_of_file
from irl.data.text import EOS, WordVocabulary, words_of
from irl.language.config import LanguageConfig


def validate(args: argparse.Namespace) -> Iterator[str]:
    """Count the words of each text, and compare with published numbers where they are given."""
    for path, expected in zip(args.paths, args.tokens or [0] * len(args.paths)):
        words = [word for _, word in words_of(path)]
        if expected and len(words) != expected:
            raise UserError(f"{path}: {len(words)} tokens, {expected} are published ({len(words) - expected:+d})")
        lines, kinds = words.count(EOS), len(set(words))
        yield f"{path}: {len(words)} tokens in {lines} lines, each with its {EOS}; {kinds} different words"


def text_fingerprint(path: Path) -> str:
    """Of a text, empty where there is none."""
    return remembered_of_file(path, lambda: file_fingerprint(path))


def vocabulary_inputs(config: LanguageConfig) -> dict[str, str | int]:
    """What a vocabulary is made from."""
    return {"train_text": text_fingerprint(Path(config.train_text)), "min_count": config.min_count}


def train_data(config: LanguageConfig) -> dict[str, str]:
    """The training text as training reads it: as numbers, with its own vocabulary."""
    path = Path(config.train_text)

    def numbers() -> str:
        vocabulary = WordVocabulary.of((word for _, word in words_of(path)), config.min_count)
        return content_fingerprint([vocabulary.encode(path).numpy().tobytes()])

    dev = text_fingerprint(Path(config.dev_text)) if config.train.average else ""
    return {"train_data": remembered_of_file(path, numbers, "numbers", config.min_count), "dev_data": dev}


def test_data(conditions: Sequence[str], args: object = None) -> dict[str, str]:
    """Of each NAME=TEXT."""
    return {name: text_fingerprint(Path(text)) for name, _, text in (item.partition("=") for item in conditions)}


def prepare(settings: LanguageConfig, check: Sequence[str], methods: Sequence[LanguageConfig] = ()) -> str:
    """Write the vocabulary of the training text. check: test texts whose words it must know or call unknown."""
    words = (word for _, word in words_of(Path(settings.train_text)))
    vocabulary = WordVocabulary.of(words, settings.min_count)
    lengths = {path: len(vocabulary.encode(Path(path))) for path in (settings.train_text, settings.dev_text, *check)}
    vocabulary.write(Path(settings.vocabulary))
    record_inputs(Path(settings.vocabulary), **vocabulary_inputs(settings))
    tokens = ", ".join(f"{path} {count}" for path, count in lengths.items())
    return f"{settings.vocabulary}: {len(vocabulary)} words; tokens: {tokens}"
