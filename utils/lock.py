#!/usr/bin/env python3
"""Lock a file that the calling shell has open: lock.py FD FILE ADVICE [OTHER ...]

The shell holds the lock until it ends or closes FD. Fails, with one line, where another process holds FILE, or at this
moment one of the OTHER lock files; ADVICE ends the line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from irl.core import lock
from irl.core.errors import UserError, run_command


def main() -> None:
    descriptor, path, advice, *others = sys.argv[1:]
    lock.take(int(descriptor), Path(path), advice, os.getppid())
    try:
        for other in others:
            lock.check_free(Path(other), advice)
    except UserError:
        os.ftruncate(int(descriptor), 0)
        raise


if __name__ == "__main__":
    run_command(main)
