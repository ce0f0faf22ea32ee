"""Vocabulary of a training text; checking texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterator, Sequence

from irl.core.errors import UserError
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


def prepare(settings: LanguageConfig, check: Sequence[str]) -> str:
    """Write the vocabulary of the training text. check: test texts whose words it must know or call unknown."""
    words = (word for _, word in words_of(Path(settings.train_text)))
    vocabulary = WordVocabulary.of(words, settings.min_count)
    lengths = {path: len(vocabulary.encode(Path(path))) for path in (settings.train_text, settings.dev_text, *check)}
    vocabulary.write(Path(settings.vocabulary))
    tokens = ", ".join(f"{path} {count}" for path, count in lengths.items())
    return f"{settings.vocabulary}: {len(vocabulary)} words; tokens: {tokens}"
