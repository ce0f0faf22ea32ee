"""Train: irl train CONFIG.yaml --exp DIR [key=value ...]

One loop trains all tasks, in one process, or in several started by torchrun or srun. If DIR/checkpoint.pt exists,
training resumes from it exactly. A run of another configuration or of other data is refused, or, with --anew, moved to
DIR/old.N, and training begins anew. `--start CHECKPOINT` begins from the end of a different run's clean phase instead.
The clean phase is the same for every method, so the weights are the same to the bit.
"""

from __future__ import annotations

import json
from pathlib import Path

from irl.core import atomic_io, config, lock
from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.core.logging import log_to
from irl.training import distributed
from irl.training.registry import read_config
from irl.training.trainer import Trainer


def main() -> None:
    parser = Parser(prog="irl train", description="Train a model.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--exp", type=Path, required=True, help="directory of this run: checkpoint, metrics, logs")
    parser.add_argument("--start", type=Path, help="checkpoint at the end of a clean phase to begin from")
    parser.add_argument("--anew", action="store_true", help="move a run of another configuration or other data aside")
    parser.add_argument("--stop", help="stop after this update, or `clean`: at the end of the clean phase")
    args = parser.parse_intermixed_args()
    if args.stop is not None and args.stop != "clean" and not args.stop.isdigit():
        parser.error(f"--stop: expected a number of updates or `clean`, got {args.stop!r}")
    settings = read_config(args.config, args.overrides)
    last = settings.train.updates
    stop = settings.train.clean_updates if args.stop == "clean" else int(args.stop or last)
    with distributed.together():
        trainer = Trainer(settings, args.exp)
        first = trainer.state.first
        with lock.held(args.exp / "lock", "wait for it, or train with another --exp", needed=first):
            if first:
                log_to(args.exp / "train.log")
            trainer.state.resume(args.start, args.anew)
            if first:
                atomic_io.write(args.exp / "config.json", json.dumps(config.to_dict(settings), indent=1) + "\n")
            trainer.run(min(stop, last))


if __name__ == "__main__":
    run_command(main)
