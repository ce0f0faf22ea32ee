"""Stable hashes, and the one answer to "was this made already, from the same inputs?".

A product, such as the counts of one test condition, is a JSON file whose key "fingerprint" holds what it was made from:
settings, and hashes of weights and data. This module needs no torch: processes that only read and write audio start
faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, Iterable, Mapping

from irl.core import atomic_io


def stable_hash(*parts: str | int) -> int:
    """A 63-bit non-negative integer that depends only on the parts, in every process and on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def content_fingerprint(chunks: Iterable[bytes]) -> str:
    """16 hexadecimal digits of all chunks in a row."""
    hashed = hashlib.blake2b(digest_size=8)
    for chunk in chunks:
        hashed.update(chunk)
    return hashed.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Hash of a file's content: it identifies a checkpoint or a text in results."""
    return content_fingerprint([path.read_bytes()])


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log of numbers by name, one JSON object a line. What a crash of the machine leaves instead, such
    as zero bytes or half a line, is left out. Empty where there is no file."""
    found: list[Any] = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(text))
    lines = [line for line in found if isinstance(line, dict)]
    return [{name: value for name, value in line.items() if isinstance(value, (int, float))} for line in lines]


def read_product(path: Path, fingerprint: Mapping[str, Any], *keys: str) -> dict[str, Any] | None:
    """The product at `path` if it has these keys and was made with this fingerprint; None if it is missing, damaged or
    of other inputs."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    same = isinstance(content, dict) and content.get("fingerprint") == json.loads(json.dumps(fingerprint))
    return content if same and all(key in content for key in keys) else None


def write_product(path: Path, fingerprint: Mapping[str, Any], **content: Any) -> None:
    """Write a product, whole or not at all."""
    atomic_io.write(path, json.dumps({"fingerprint": fingerprint, **content}) + "\n")


def remembered(path: Path, stamps: Any, make: Any) -> str:
    """A fingerprint that is slow to take, kept in the file `path` beside `stamps`, such as sizes and times, by which it
    is known to be still right. A folder that cannot be written costs the time again, nothing else."""
    stamp = content_fingerprint([json.dumps(stamps).encode()])
    known = read_product(path, {"stamps": stamp}, "value")
    if known is not None:
        return str(known["value"])
    value: str = make()
    try:
        write_product(path, {"stamps": stamp}, value=value)
    except atomic_io.UserError:
        pass
    return value
