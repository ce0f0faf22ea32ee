"""Compute vocabulary and statistics of the training set: irl prepare CONFIG.yaml [key=value ...]

Speech: the vocabulary and the statistics of the features. Images: the statistics of the colours. Text: the vocabulary
with its counts. --methods finds out before any training whether the data suit the training of each method: the sizes of
its batches, its labels, its noises.
"""

from __future__ import annotations

from pathlib import Path

from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.core.logging import log_to
from irl.training.distributed import Shard
from irl.training.registry import modality, read_config


def main() -> None:
    parser = Parser(prog="irl prepare", description="Vocabulary and statistics of the training set.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--check", nargs="*", default=[], help="test sets that must fit the training set")
    parser.add_argument("--methods", nargs="*", default=[], help="methods to check, of configurations beside CONFIG")
    args = parser.parse_intermixed_args()
    log_to()
    settings = read_config(args.config, args.overrides)
    methods = [read_config(args.config.parent / f"{method}.yaml", args.overrides) for method in args.methods]
    found = modality(settings.task, str(args.config))
    print(found.prepare(settings, args.check, methods), flush=True)
    for own in methods:
        found.task(own, Shard()).batches_of(0)


if __name__ == "__main__":
    run_command(main)
