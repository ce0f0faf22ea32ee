"""The console script: irl NAME ARGUMENT ..."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import irl.bin
from irl.core.errors import run_command


def commands() -> list[str]:
    """Names of all commands."""
    return sorted(module.name for module in pkgutil.iter_modules(irl.bin.__path__) if module.name != "__main__")


def main() -> None:
    names = commands()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(f"usage: irl NAME ...\n\n{irl.bin.__doc__}\n\n  {'  '.join(names)}\n\nirl NAME --help explains one.")
        sys.exit(0 if len(sys.argv) > 1 else 2)
    name = sys.argv.pop(1)
    if name not in names:
        sys.exit(f"error: irl: unknown command {name!r}, known are {', '.join(names)}")
    run_command(importlib.import_module(f"irl.bin.{name}").main)


if __name__ == "__main__":
    main()
