"""What a task needs of its training set beside the examples: irl prepare CONFIG.yaml [key=value ...]

Speech: the vocabulary, and the statistics of the features. Vision: the statistics of the colours. Language: the
vocabulary with its counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable

from irl.core.errors import UserError, run_command
from irl.language.prepare import prepare_language
from irl.speech.prepare import prepare_speech
from irl.training.registry import read_config
from irl.vision.prepare import prepare_vision

PREPARE: dict[str, Callable[[Any, list[str]], str]] = {
    "speech": prepare_speech,
    "vision": prepare_vision,
    "language": prepare_language,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl prepare", description="Statistics of the training set.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--check", nargs="*", default=[], help="test sets that must fit the training set")
    args = parser.parse_intermixed_args()
    settings = read_config(args.config, args.overrides)
    if settings.task not in PREPARE:
        raise UserError(f"{args.config}: task {settings.task} needs nothing to be prepared")
    print(PREPARE[settings.task](settings, args.check))


if __name__ == "__main__":
    run_command(main)
