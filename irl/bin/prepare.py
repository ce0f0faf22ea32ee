"""Compute vocabulary and statistics of the training set: irl prepare CONFIG.yaml [key=value ...]

Speech: the vocabulary and the statistics of the features. Images: the statistics of the colours. Text: the vocabulary
with its counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl.core.errors import run_command
from irl.training.registry import modality, read_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl prepare", description="Vocabulary and statistics of the training set.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--check", nargs="*", default=[], help="test sets that must fit the training set")
    args = parser.parse_intermixed_args()
    settings = read_config(args.config, args.overrides)
    print(modality(settings.task, str(args.config)).prepare(settings, args.check))


if __name__ == "__main__":
    run_command(main)
