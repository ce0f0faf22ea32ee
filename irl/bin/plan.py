"""List what has no result yet: irl plan CONF_DIR --results FILE --corpus NAME --methods ... --out DIR

A run is there if a line of the results file has its configuration, its decoding and its test conditions. Writes into
DIR wanted.jsonl, every run asked for, by which `irl report` selects, and lists of jobs, one a line: missing.list
(method, seed, number of parts to decode it in), clean.list (seeds), parts.list (method, seed, part, number of parts).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from irl.core import atomic_io, config
from irl.core.errors import UserError, run_command
from irl.data import images
from irl.reporting import results
from irl.speech import search_options
from irl.training.registry import read_config
from irl.vision.conditions import read_settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl plan", description="List runs that have no result yet.")
    parser.add_argument("conf", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME=DATA_DIR")
    search_options.add_arguments(parser)
    parser.add_argument("--settings", type=Path, help="of irl evaluate, for classifiers")
    parser.add_argument("--texts", action="store_true", help="the conditions are texts, for language models")
    parser.add_argument("--test", nargs="*", default=[], metavar="key=value", help="overrides of --settings")
    parser.add_argument("--lm", type=Path, help="configuration of the language model")
    parser.add_argument("--banks", nargs=2, default=results.GENERATED, help="noises and rooms of the test sets")
    parser.add_argument("--tuned", nargs="+", help="names of the data that weights are tuned on")
    parser.add_argument("--lm-overrides", nargs="*", default=[], metavar="key=value")
    parser.add_argument("--nj", type=int, default=1, help="jobs at once: fewer runs than that are decoded in parts")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_intermixed_args()
    lines = results.read(args.results)
    if args.settings is not None:
        settings = read_settings(args.settings, args.test)
        settings.check(args.conditions)
        decode = config.to_dict(settings)
    elif args.texts:
        decode = {}
    else:
        decode = search_options.from_arguments(parser, args).named()
    if args.lm is not None:
        decode["lm"] = results.run_fingerprint(read_config(args.lm, args.lm_overrides))
    if args.tuned and args.search != "joint":
        raise UserError(f"--tuned: only the joint search has weights to tune, got --search {args.search}")
    if args.tuned:
        decode["tuned"] = args.tuned
    wanted, missing = [], []
    train_data = ""
    for method in args.methods:
        for seed in args.seeds:
            settings = read_config(args.conf / f"{method}.yaml", [*args.overrides, f"seed={seed}"])
            if settings.task == "vision" and not train_data and Path(settings.train_set).exists():
                train_data = images.read(Path(settings.train_set)).digest()
            run = {
                "corpus": args.corpus,
                "method": method,
                "seed": seed,
                "digest": results.run_fingerprint(settings),
                "decode": decode,
                "banks": args.banks,
                "train_data": train_data,
                "conditions": [item.partition("=")[0] for item in args.conditions],
            }
            wanted.append(run)
            if not any(results.matches(line, run) for line in lines):
                missing.append((method, seed))
    parts = -(-args.nj // max(1, len(missing)))
    tables: dict[str, list[tuple[object, ...]]] = {
        # The clean phase of a seed is the same for every method: it is trained once.
        "clean.list": [(seed,) for seed in sorted({seed for _, seed in missing})],
        "missing.list": [(*run, parts) for run in missing],
        "parts.list": [(*run, part, parts) for run in missing for part in range(1, parts + 1) if parts > 1],
    }
    for name, rows in tables.items():
        atomic_io.write(args.out / name, "".join(" ".join(map(str, row)) + "\n" for row in rows))
    atomic_io.write(args.out / "wanted.jsonl", "".join(json.dumps(run) + "\n" for run in wanted))
    print(f"runs without a result in {args.results}: {len(missing)}")


if __name__ == "__main__":
    run_command(main)
