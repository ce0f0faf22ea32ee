"""Word-level text as one stream of numbers, and its vocabulary."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.text_files import read_text

EOS, UNKNOWN = "<eos>", "<unk>"


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, word) of a file of words between spaces. Every line ends in <eos>, an empty one too: the convention
    under which PTB has 929,589 / 73,760 / 82,430 tokens and WikiText-2 2,088,628 / 217,646 / 245,569.

    Raises UserError for a file that is missing or empty, and names the line that is not UTF-8.
    """
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: empty, expected lines of words")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        for word in line.split():
            yield number, word
        yield number, EOS


class WordVocabulary:
    """Words by number, the most frequent first, equally frequent ones in order of the alphabet; counts (V,) in training
    are kept beside them, for they are the unigram distribution."""

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        self.words, self.counts = list(words), list(counts)
        self.index = {word: i for i, word in enumerate(self.words)}
        distinct = len(self.index) == len(self.words) == len(self.counts)
        if not distinct or EOS not in self.index or not all(0 <= count < 2**53 for count in self.counts):
            raise UserError(f"a vocabulary must hold {EOS}, each word once, and a count for each")

    @classmethod
    def of(cls, words: Iterable[str], min_count: int = 1) -> WordVocabulary:
        """Of the words of a training text; those seen fewer than min_count times are <unk>, as in WikiText-2 with 3."""
        counts: Counter[str] = Counter()
        for word, count in Counter(words).items():
            counts[word if count >= min_count or word == EOS else UNKNOWN] += count
        counted = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls([word for word, _ in counted], [count for _, count in counted])

    @classmethod
    def read(cls, path: Path) -> WordVocabulary:
        """A file of lines WORD COUNT, as `write` leaves them."""
        text = read_text(path, "no such vocabulary; run stage 3 first")
        try:
            rows = [line.rsplit(" ", 1) for line in text.splitlines()]
            return cls([word for word, _ in rows], [int(count) for _, count in rows])
        except (ValueError, UserError):
            raise UserError(f"{path}: damaged vocabulary, expected lines WORD COUNT; run stage 3 again") from None

    def write(self, path: Path) -> None:
        atomic_io.write(path, "".join(f"{word} {count}\n" for word, count in zip(self.words, self.counts)))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, path: Path) -> Tensor:
        """The words of a file, int64 (N,). A word that training never saw is <unk>, or an error where it has none."""
        unknown = self.index.get(UNKNOWN)
        numbers = []
        for line, word in words_of(path):
            number = self.index.get(word, unknown)
            if number is None:
                raise UserError(f"{path}:{line}: {word!r} is not in the training text, which has no {UNKNOWN} for it")
            numbers.append(number)
        return torch.tensor(numbers)


def tracks(stream: Tensor, count: int, bptt: int, where: str) -> Tensor:
    """A stream (N,) cut into `count` parts of equal length, (count, L), that are read side by side, what is left at the
    end left out. Raises UserError if a part is shorter than the bptt + 1 tokens of one step."""
    length = len(stream) // count
    if length < bptt + 1:
        raise UserError(
            f"{where}: {len(stream)} tokens in {count} rows are {length} each, fewer than bptt {bptt} and one more"
        )
    return stream[: count * length].view(count, length)
