"""Locks that tell who holds them: two processes that would write the same files do not run at once.

The kernel keeps a lock (flock) for as long as the process that took it, or a child that inherited it, runs, so a crash
leaves none behind. The file also holds the holder's process, host and time, for the message to whoever comes second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from pathlib import Path
from typing import Iterator

from irl.core.errors import UserError
from irl.core.logging import logger

# Seconds in which the children of a holder that was killed, such as a loader's workers, end by themselves.
PATIENCE = 10.0


@contextlib.contextmanager
def held(path: Path, advice: str, needed: bool = True) -> Iterator[None]:
    """Hold the lock file `path` in this context. advice: what to do where another holds it, the end of the message.
    needed: of several processes that work together one takes the lock.

    Raises UserError where another process holds it.
    """
    if not needed:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        take(file.fileno(), path, advice, os.getpid())
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)


def take(descriptor: int, path: Path, advice: str, holder: int) -> None:
    """Lock an open file for the process `holder`, or raise UserError that says who holds it. The lock of a holder that
    ended without giving it back, that is, without emptying the file, is taken over with a warning."""
    end = time.monotonic() + PATIENCE
    while True:
        other = path.read_text(encoding="utf-8", errors="replace").strip()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Without a name it was taken at this moment, or looked at by `check_free`.
            if other and not _ended(other) or time.monotonic() > end:
                raise UserError(f"{path.parent}: in use by {other or 'another process'}; {advice}") from None
            time.sleep(0.1)
        except OSError as error:
            logger.warning(f"warning: {path}: no locks here ({error.strerror}); never run two at once")
            return
    other = path.read_text(encoding="utf-8", errors="replace").strip()
    if other:
        logger.warning(f"warning: {path.parent}: taken over from {other}, which ended without giving it back")
    os.ftruncate(descriptor, 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(descriptor, f"process {holder} on {socket.gethostname()} since {since}\n".encode())


def check_free(path: Path, advice: str) -> None:
    """Raises UserError where a process holds the lock file `path` at this moment."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path.parent}: in use by {file.read().strip() or 'another process'}; {advice}") from None
        except OSError:
            pass  # a file system without locks


def _ended(holder: str) -> bool:
    """Whether a holder was a process of this host that runs no more."""
    found = re.match(r"process (\d+) on (\S+) since ", holder)
    if not found or found[2] != socket.gethostname():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


@contextlib.contextmanager
def folder(path: Path) -> Iterator[None]:
    """Whoever writes into a folder waits here for the others; for moments, such as adding a line to a file."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
