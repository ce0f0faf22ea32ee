"""Command lines whose options depend on the modality of a checkpoint, a run or a configuration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from irl.training import checkpoint
from irl.training.modality import Modality
from irl.training.registry import MODALITIES, modality


def modality_of(path: Path) -> Modality:
    """The modality of a checkpoint."""
    return modality(checkpoint.load(path)["config"].get("task"), str(path))


def first_word(command: str, what: str, description: str) -> str:
    """The first argument of the command line, which determines the modality. Without it, print the general help."""
    words = sys.argv[1:]
    if words and not words[0].startswith("-"):
        return words[0]
    parser = argparse.ArgumentParser(prog=f"irl {command}", description=description)
    parser.add_argument(what, help="its modality determines the remaining options; put it before --help to see them")
    parser.parse_args()
    raise AssertionError("argparse ends the program where the argument is missing")


def by_checkpoint(command: str, description: str) -> tuple[argparse.ArgumentParser, Modality]:
    """The parser of a command on one checkpoint, with the options of its modality."""
    found = modality_of(Path(first_word(command, "checkpoint", description)))
    parser = argparse.ArgumentParser(prog=f"irl {command}", description=description)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--conditions", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--out", type=Path, help="directory to write into; default: evaluate, beside the checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="number of torch threads")
    found.add_arguments(command, parser)
    return parser, found


def by_task(command: str, description: str) -> tuple[argparse.ArgumentParser, Modality]:
    """The parser of a command whose first argument is a task."""
    found = modality(first_word(command, "task", description), "command line")
    parser = argparse.ArgumentParser(prog=f"irl {command}", description=description)
    parser.add_argument("task", choices=MODALITIES)
    parser.add_argument("paths", type=Path, nargs="+", help="data of the task")
    found.add_arguments(command, parser)
    return parser, found
