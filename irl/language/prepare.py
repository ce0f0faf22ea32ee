"""Vocabulary of a training text."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def prepare_language(settings: Any, check: list[str]) -> str:
    from irl.data.text import WordVocabulary, words_of

    words = (word for _, word in words_of(Path(settings.train_text)))
    vocabulary = WordVocabulary.of(words, settings.min_count)
    lengths = {path: len(vocabulary.encode(Path(path))) for path in (settings.train_text, settings.dev_text, *check)}
    vocabulary.write(Path(settings.vocabulary))
    tokens = ", ".join(f"{path} {count}" for path, count in lengths.items())
    return f"{settings.vocabulary}: {len(vocabulary)} words; tokens: {tokens}"
