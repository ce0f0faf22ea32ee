"""Command lines whose options depend on the modality of a checkpoint, a run or a configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from irl.core.arguments import Parser
from irl.training import checkpoint
from irl.training.modality import Modality
from irl.training.registry import modality


def modality_of(path: Path) -> Modality:
    """The modality of a checkpoint."""
    return modality(checkpoint.load(path)["config"].get("task"), str(path))


def first_word(command: str, what: str, description: str) -> str:
    """The first argument of the command line, which determines the modality. Without it, print the general help."""
    words = sys.argv[1:]
    if words and not words[0].startswith("-"):
        return words[0]
    parser = Parser(prog=f"irl {command}", description=description)
    parser.add_argument(what, help="its modality determines the remaining options; put it before --help to see them")
    parser.parse_args()
    raise AssertionError("argparse ends the program where the argument is missing")
