#!/usr/bin/env python3
"""Run one command of a list: line.py LIST N

Each line of LIST is a command, quoted as for a shell, which takes no part in running it; N counts from 1. With
utils/run.py a list becomes jobs.
"""

import os
import shlex
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit("line.py: expected LIST N")
    try:
        lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"line.py: {sys.argv[1]}: {error}")
    number = int(sys.argv[2])
    if not 1 <= number <= len(lines):
        sys.exit(f"line.py: {sys.argv[1]} has {len(lines)} lines, asked for line {number}")
    command = shlex.split(lines[number - 1])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"line.py: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
