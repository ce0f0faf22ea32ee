#!/usr/bin/env python3
"""Make the mini corpus: local/make_mini.py OUT

Python's own manual, as pydoc_data.topics holds it: a paragraph a line, whole topics in train, valid or test. Real text,
but small, and it differs a little between releases of Python: its digest is printed, and that of the training text goes
with every result. Words seen fewer than three times in training are <unk>, numbers N.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

from irl.core import atomic_io
from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.core.fingerprint import stable_hash
from irl.data.text import UNKNOWN

RARE = 3
SHARE = 0.1  # of the words, for test and for valid at least


def paragraphs(text: str) -> list[list[str]]:
    """Words, in lower case, and punctuation, each a token; rulers and markers of the manual's layout are left out."""
    found = []
    for block in re.split(r"\n\s*\n", re.sub(r"[-=+*~|]{2,}", " ", text)):
        words = re.findall(r"[a-z_]+(?:'[a-z]+)?|\d+(?:\.\d+)?|[.,;:?!()\[\]{}=<>%@&|~^/+-]", block.lower())
        found.append([("N" if word[0].isdigit() else word) for word in words])
    return [words for words in found if len(words) > 2]


def main() -> None:
    parser = Parser(description="Make the mini corpus.")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    order = sorted(topics, key=lambda name: stable_hash("topic", name))
    rows_of = {name: paragraphs(topics[name]) for name in order}
    least = SHARE * sum(len(words) for rows in rows_of.values() for words in rows)
    parts: dict[str, list[list[str]]] = {"test": [], "valid": [], "train": []}
    for name in order:
        # Whole topics: test is filled first, then valid; the others are for training.
        part = next(p for p in parts if p == "train" or sum(map(len, parts[p])) < least)
        parts[part] += rows_of[name]
    counts = Counter(word for words in parts["train"] for word in words)
    hashed = hashlib.blake2b(digest_size=8)
    for part, rows in parts.items():
        lines = [" ".join(word if counts[word] >= RARE else UNKNOWN for word in words) for words in rows]
        text = "\n".join(lines) + "\n"
        hashed.update(text.encode())
        atomic_io.write(args.out / f"{part}.txt", text)
        print(f"{args.out / part}.txt: {len(lines)} lines, {sum(map(len, rows)) + len(lines)} tokens")
    print(f"digest of the corpus: {hashed.hexdigest()}")


if __name__ == "__main__":
    run_command(main)
