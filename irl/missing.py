"""List what has no result yet: python -m irl.missing CONF_DIR --results FILE --corpus NAME --methods ... --seeds ...

Prints one line `method seed` for each run that the results file lacks, judged by its configuration, its decoding and
its test conditions. --wanted FILE also writes every run that is asked for as a JSON line; `irl.report` selects by it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from irl import command, config, files, results
from irl.tasks.beam_search import SearchOptions
from irl.train import read_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.missing", description="List runs that have no result yet.")
    parser.add_argument("conf", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME=DATA_DIR")
    parser.add_argument("--search", default="joint")
    parser.add_argument("--beam", type=int, default=SearchOptions.beam)
    parser.add_argument("--ctc-weight", type=float, default=SearchOptions.ctc_weight)
    parser.add_argument("--wanted", type=Path, help="write the runs asked for")
    args = parser.parse_intermixed_args()
    lines = results.read(args.results)
    weight = 0.0 if args.search == "attention" else args.ctc_weight
    runs = []
    for method in args.methods:
        for seed in args.seeds:
            settings = read_config(args.conf / f"{method}.yaml", [*args.overrides, f"seed={seed}"])
            run = {
                "corpus": args.corpus,
                "method": method,
                "seed": seed,
                "digest": results.run_digest(config.to_dict(settings)),
                "decode": {"search": args.search, "beam": args.beam, "ctc_weight": weight},
                "conditions": [item.partition("=")[0] for item in args.conditions],
            }
            runs.append(run)
            if not any(results.matches(line, run) for line in lines):
                print(method, seed)
    if args.wanted:
        files.write(args.wanted, "".join(json.dumps(run) + "\n" for run in runs))


if __name__ == "__main__":
    command.run_command(main)
