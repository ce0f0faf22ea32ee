#!/usr/bin/env python3
"""Lock a file that the calling shell has open: lock.py FD FILE ADVICE [OTHER ...]

The shell holds the lock until it ends or closes FD. Fails, with one line, where another process holds FILE, or at this
moment one of the OTHER lock files; ADVICE ends the line. FD -: hold nothing, only look at the others.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from irl.core import lock
from irl.core.errors import run_command


def main() -> None:
    descriptor, path, advice, *others = sys.argv[1:]
    if descriptor != "-":
        lock.take(int(descriptor), Path(path), advice, os.getppid())
    for other in others:
        lock.check_free(Path(other), advice)


if __name__ == "__main__":
    run_command(main)
