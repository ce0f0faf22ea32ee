"""Errors that a user can mend, and how a command ends."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
from typing import Callable


class UserError(Exception):
    """Entry points print it without a traceback and exit with status 1. It is one line, whatever a file or another
    library has put into it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


# "Temporary failure, try again" (sysexits.h): what a job that should be queued again ends with.
REQUEUE = 75


class Requeue(Exception):
    """A run was asked to stop, by preemption or before its time is up, and has saved its state."""


def run_command(main: Callable[[], None]) -> None:
    """Run an entry point. UserError and full disks give one line and status 1, Ctrl-C one line and status 130, a signal
    that asks a training to make room one line and status 75. What a terminal's encoding lacks is written as \\xb1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # irl.bin has another one while it imports
    if not gc.isenabled():  # irl.bin has switched it off while it imports
        gc.freeze()
        gc.enable()
    try:
        main()
        sys.stdout.flush()
        _done.set()
    except BrokenPipeError:
        _discard_output()  # whoever read it has enough, as `head` has
        sys.exit(1)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        if not error.filename:
            _discard_output()
        sys.exit(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error.strerror}")
    except Requeue as request:
        sys.stderr.write(f"{request}; the same command goes on where it stopped\n")
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on where it stopped\n")
        sys.exit(130)


_done = threading.Event()


def leave_quickly() -> None:
    """The last handler at the exit of a command. If its work is done, modules are not taken apart."""
    if _done.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _discard_output() -> None:
    """Point stdout at /dev/null. Otherwise Python reports an error at exit for buffered output that nobody can read."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
