"""List what has no result yet: python -m irl.missing CONF_DIR --results FILE --corpus NAME --methods ... --seeds ...

Prints one line `method seed` for each run that the results file lacks, judged by its configuration, its decoding and
its test conditions. --wanted FILE also writes every run that is asked for as a JSON line; `irl.report` selects by it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from irl import command, files, results
from irl.experiment import read_config
from irl.tasks import search_options


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.missing", description="List runs that have no result yet.")
    parser.add_argument("conf", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME=DATA_DIR")
    search_options.add_arguments(parser)
    parser.add_argument("--lm", type=Path, help="configuration of the language model")
    parser.add_argument("--tuned", nargs="+", help="names of the data that weights are tuned on")
    parser.add_argument("--wanted", type=Path, help="write the runs asked for")
    args = parser.parse_intermixed_args()
    lines = results.read(args.results)
    decode = search_options.from_arguments(parser, args).named()
    if args.lm is not None:
        shared = ("train_dir", "dev_dir", "vocabulary")
        given = [item for item in args.overrides if item.partition("=")[0] in shared]
        decode["lm"] = results.run_digest(read_config(args.lm, given))
    if args.tuned:
        decode["tuned"] = args.tuned
    runs = []
    for method in args.methods:
        for seed in args.seeds:
            settings = read_config(args.conf / f"{method}.yaml", [*args.overrides, f"seed={seed}"])
            run = {
                "corpus": args.corpus,
                "method": method,
                "seed": seed,
                "digest": results.run_digest(settings),
                "decode": decode,
                "conditions": [item.partition("=")[0] for item in args.conditions],
            }
            runs.append(run)
            if not any(results.matches(line, run) for line in lines):
                print(method, seed)
    if args.wanted:
        files.write(args.wanted, "".join(json.dumps(run) + "\n" for run in runs))


if __name__ == "__main__":
    command.run_command(main)
