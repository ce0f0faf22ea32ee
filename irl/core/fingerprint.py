"""Stable hashes, and the one answer to "was this made already, from the same inputs?".

A product, such as the counts of one test condition, is a JSON file whose key "fingerprint" holds what it was made from:
settings, and hashes of weights and data. A product of another form, such as a vocabulary, has its inputs in a file
beside it (`record_inputs`), which whoever uses it compares with the inputs that there are now (`check_inputs`). This
module needs no torch: processes that only read and write audio start faster.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping

from irl.core import atomic_io
from irl.core.errors import UserError


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


def file_chunks(path: Path, size: int = 1 << 24) -> Iterator[bytes]:
    """The content of a file, a part at a time."""
    with open(path, "rb") as file:
        while chunk := file.read(size):
            yield chunk


def file_fingerprint(path: Path) -> str:
    """Hash of a file's content: it identifies a checkpoint or a text in results."""
    return content_fingerprint(file_chunks(path))


def stamp(path: Path) -> tuple[int, ...]:
    """Inode, size and times of a file, zeros where there is none. The inode and the time of its last change also tell
    where another file was put there with the size and the time of the old one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


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


# Fingerprints of this process, by what they were taken from: a folder may be closed to writing.
_taken: dict[str, str] = {}


def remembered(path: Path, stamps: Iterable[Any], make: Callable[[], str]) -> str:
    """A fingerprint that is slow to take, kept in the file `path` beside `stamps`, such as sizes and times, by which it
    is known to be still right. A folder that cannot be written costs the time again, nothing else."""

    def text() -> Iterator[str]:
        """json.dumps([path, [stamps...]]) in parts: the whole text of a large set would take a gigabyte."""
        yield f"[{json.dumps(str(path.resolve()))}, ["
        for i, part in enumerate(stamps):
            yield (", " if i else "") + json.dumps(part)
        yield "]]"

    stamped = content_fingerprint(part.encode() for part in text())
    if stamped in _taken:
        return _taken[stamped]
    known = read_product(path, {"stamps": stamped}, "value")
    if known is None:
        known = {"value": make()}
        try:
            write_product(path, {"stamps": stamped}, **known)
        except (UserError, OSError):
            pass
    _taken[stamped] = str(known["value"])
    return _taken[stamped]


def remembered_of_file(path: Path, make: Callable[[], str], kind: str = "fingerprint", *settings: str | int) -> str:
    """The same of one file, kept beside it. kind, settings: which of several fingerprints, and how it is made. Empty
    where there is no such file."""
    if not path.is_file():
        return ""
    return remembered(path.with_name(f".{path.name}.{kind}.json"), [stamp(path), *settings], make)


def _inputs_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.inputs.json")


def record_inputs(path: Path, **inputs: str | int) -> None:
    """Write beside a product what it was made from: fingerprints and settings by name."""
    write_product(_inputs_of(path), inputs)


def recorded_inputs(path: Path) -> dict[str, Any]:
    """What `record_inputs` wrote beside a product; empty where nothing was recorded, as by earlier versions."""
    try:
        inputs: dict[str, Any] = json.loads(_inputs_of(path).read_text(encoding="utf-8"))["fingerprint"]
        return dict(inputs)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def check_inputs(path: Path, advice: str, **inputs: str | int) -> None:
    """Raises UserError, with the advice, where a product was made from other inputs than these. What was not recorded,
    or is not known now (empty), is not compared."""
    recorded = recorded_inputs(path)
    for name, value in inputs.items():
        old = recorded.get(name, value)
        if old != value and old != "" and value != "":
            kind = f"with {name} {old}, now it is {value}"
            found = kind if isinstance(value, int) else f"from another {name} than there is now"
            raise UserError(f"{path}: was made {found}; {advice}")
