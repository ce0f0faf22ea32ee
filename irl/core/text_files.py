"""Reading text files that people wrote: encodings, marks, and one-line errors."""

from __future__ import annotations

import codecs
import contextlib
import json
from pathlib import Path
from typing import Any

from irl.core.errors import UserError


def read_text(path: Path, missing: str = "no such file") -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark. Marks are no part of it, wherever they stand:
    joined files have them inside.

    Raises UserError for what is no such file, and names the first line that is not text.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: {'a folder' if path.is_dir() else 'a pipe or a device'}, expected a text file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: {missing}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    encoding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n") - 1
        raise UserError(f"{path}:{line}: not {encoding} text: {error.reason} at byte {column}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path}:{line}: not text: it holds a NUL character")
    return text.replace("\ufeff", "")


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log of numbers by name, one JSON object a line. What a crash of the machine leaves instead, such
    as zero bytes or half a line, is left out. Empty where there is no file."""
    found: list[Any] = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(text))
    lines = [line for line in found if isinstance(line, dict)]
    return [{name: value for name, value in line.items() if isinstance(value, (int, float))} for line in lines]
