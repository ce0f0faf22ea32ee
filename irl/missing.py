"""List what has no result yet: python -m irl.missing CONF_DIR --results FILE --methods ... --seeds ... [key=value ...]

One line `method seed` for each run that the results file lacks, judged by its configuration.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl import command, config, results
from irl.train import read_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.missing", description="List runs that have no result yet.")
    parser.add_argument("conf", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    args = parser.parse_intermixed_args()
    done = {(line["corpus"], line["method"], line["digest"]) for line in results.read(args.results)}
    for method in args.methods:
        for seed in args.seeds:
            settings = read_config(args.conf / f"{method}.yaml", [*args.overrides, f"seed={seed}"])
            if (args.corpus, method, results.run_digest(config.to_dict(settings))) not in done:
                print(method, seed)


if __name__ == "__main__":
    command.run_command(main)
