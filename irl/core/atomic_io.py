"""Writing files so that nothing already written is lost: whole or not at all, and errors name the file."""

from __future__ import annotations

import os
from pathlib import Path

from irl.core.errors import UserError


def write(path: Path, content: bytes | str, keep: Path | None = None) -> None:
    """Write to a temporary file, sync and rename, so that `path` is always one complete file, the old or the new. keep:
    where the old one is left, beside `path`; whoever is killed between the two renames has it there, and no `path`.

    Raises UserError where it cannot be written, say on a full disk; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        # The rename itself is on disk once the folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        stays = "; the previous file stays" if path.exists() else ""
        raise UserError(f"{path}: cannot be written: {error.strerror}{stays}") from None


def check_writable(path: Path) -> None:
    """Raises UserError where `write` could not write to `path`: long work must not find that out at its end."""
    if path.is_dir():
        raise UserError(f"{path}: expected a file to write to, found a directory")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written: {folder} is not a directory that you may write to")


def append(path: Path, line: str) -> None:
    """Add a line to a text file. Raises UserError that names it."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
