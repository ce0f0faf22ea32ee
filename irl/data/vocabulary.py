"""Characters and their numbers: 0 is the CTC blank, 1 the unknown character, the last one both sos and eos."""

from __future__ import annotations

import itertools
import sys
from array import array
from pathlib import Path
from typing import Callable, Iterable

import numpy as np

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.text_files import read_text
from irl.data.ragged import Ragged

BLANK, UNKNOWN, SPACE, EOS = "<blank>", "<unk>", "<space>", "<sos/eos>"
# Texts that are encoded at once: enough to keep numpy busy, few enough for their characters to take some megabytes.
BLOCK = 8192


class Vocabulary:
    """A list of tokens in ESPnet's layout (blank 0, sos and eos last), one a line in a file."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = list(tokens)
        self.index = {token: i for i, token in enumerate(self.tokens)}
        if len(self.index) < len(self.tokens) or self.tokens[:2] != [BLANK, UNKNOWN] or self.tokens[-1] != EOS:
            raise UserError(f"a vocabulary must begin with {BLANK} {UNKNOWN}, end with {EOS} and repeat nothing")
        self.eos = len(self.tokens) - 1

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Vocabulary:
        """The characters of the texts, training texts only."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls([BLANK, UNKNOWN, *(SPACE if c == " " else c for c in sorted(characters)), EOS])

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        text = read_text(path, "no such vocabulary; run stage 3 first")
        try:
            return cls(text.removesuffix("\n").split("\n"))
        except UserError as error:
            raise UserError(f"{path}: {error}; run stage 3 again") from None

    def write(self, path: Path) -> None:
        atomic_io.write(path, "".join(f"{token}\n" for token in self.tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, where: str) -> list[int]:
        """Numbers of the characters of a text. A character that training never saw is an error that names `where`."""
        numbers = []
        for character in text:
            token = SPACE if character == " " else character
            if token not in self.index:
                raise UserError(
                    f"{where}: unknown character {character!r} (U+{ord(character):04X}), not in training text"
                )
            numbers.append(self.index[token])
        return numbers

    def encode_all(self, texts: Iterable[str], where: Callable[[int], str]) -> Ragged:
        """The numbers of each text, and eos. Equal to `encode` of one after another, at ten times its speed.
        where: names a text by its place, for the error."""
        numbers = np.full(sys.maxunicode + 1, -1)  # by code point
        for token, number in self.index.items():
            if len(token) == 1:
                numbers[ord(token)] = number
        numbers[ord(" ")] = self.index.get(SPACE, -1)
        found, lengths = [np.empty(0, np.uint8)], array("q")
        rest = iter(texts)
        while block := list(itertools.islice(rest, BLOCK)):
            own = np.array([len(text) + 1 for text in block])
            text = "".join(text + "\n" for text in block)
            encoded = numbers[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
            encoded[own.cumsum() - 1] = self.eos
            if encoded.min() < 0:
                for i, text in enumerate(block, len(lengths)):
                    self.encode(text, where(i))
            found.append(encoded.astype(np.min_scalar_type(len(self))))
            lengths.extend(own)
        return Ragged(np.concatenate(found), np.array(lengths))

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of token numbers; blank, unknown and eos have none."""
        skip = (0, 1, self.eos)
        return "".join(" " if self.tokens[i] == SPACE else self.tokens[i] for i in numbers if i not in skip)
