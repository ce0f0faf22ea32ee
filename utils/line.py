#!/usr/bin/env python3
"""Run a command with the fields of one line of a list: line.py LIST N COMMAND [ARG ...]

{1}, {2}, ... in each ARG stand for the fields of line N, counted from 1. With utils/run.py it turns a list into jobs.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) < 4 or not sys.argv[2].isdigit():
        sys.exit("line.py: expected LIST N COMMAND [ARG ...]")
    lines = Path(sys.argv[1]).read_text().splitlines()
    number = int(sys.argv[2])
    if not 1 <= number <= len(lines):
        sys.exit(f"line.py: {sys.argv[1]} has {len(lines)} lines, asked for line {number}")
    command = sys.argv[3:]
    for i, field in enumerate(lines[number - 1].split(), 1):
        command = [arg.replace(f"{{{i}}}", field) for arg in command]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
