"""Writing files so that nothing already written is lost: whole or not at all, and errors name the file."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Iterator

from irl.core.errors import UserError


def write(path: Path, content: bytes | str, keep: Path | None = None) -> None:
    """Write to a temporary file, sync and rename, so that `path` is always one complete file, the old or the new. keep:
    where the old one is left, beside `path`; whoever is killed between the two renames has it there, and no `path`.

    Raises UserError where it cannot be written, say on a full disk; what was there stays.
    """
    with replacing(path, keep) as temporary, open(temporary, "xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None, sync: bool = True) -> Iterator[Path]:
    """The same for writers that want a path: they write the one given, a new file in the same folder. Its name cannot
    be foretold, so that no link lies there, and two writers never share it. sync: wait until it is on the disk, which
    for thousands of small files takes long."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if sync:
            _sync(temporary)
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        if sync:
            _sync(path.parent)  # with the folder, the rename itself is on the disk
    except OSError as error:
        stays = "; the previous file stays" if path.exists() else ""
        raise UserError(f"{path}: cannot be written: {error.strerror}{stays}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
