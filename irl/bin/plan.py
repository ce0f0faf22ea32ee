"""Plan a table: irl plan CONF_DIR [key=value ...] --methods ... --seeds ... --results FILE --corpus NAME --out EXP

A run is complete if a line of the results file has its configuration, evaluation and test conditions, and the data that
it was trained and tested on are those that are there now. For all other runs, EXP (or --lists DIR) gets lists of
commands, one command a line, which `utils/line.py` runs: clean.list, train.list, part.list, evaluate.list, score.list.
analyse.list covers the first seed of every method. wanted.jsonl beside them lists every requested run: `irl report`
selects results by it, and `irl evaluate` and `irl analyse` refuse weights that are of none of them.

With --draft, before the data are made, the configuration and the conditions are checked, and no data are looked at.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from irl.core import atomic_io, config
from irl.core.arguments import Parser, positive
from irl.core.errors import UserError, run_command
from irl.core.machine import device_named
from irl.reporting import results
from irl.training.config import without_runtime_keys
from irl.training.modality import Modality, Planned
from irl.training.registry import modality, read_config

Commands = list[list[str]]


def irl(name: str, *arguments: object) -> list[str]:
    return ["python", "-m", f"irl.bin.{name}", *map(str, arguments)]


def wanted_runs(args: argparse.Namespace, found: Modality, planned: Planned) -> list[dict[str, Any]]:
    """Every requested run, with the values that its line of results must have."""
    runs = []
    test_data = {} if args.draft else found.test_data(planned.conditions, args)
    for method in args.methods:
        train_data = None  # the same for every seed
        for seed in args.seeds:
            settings = read_config(args.conf / f"{method}.yaml", [*args.overrides, f"seed={seed}"])
            if train_data is None:
                train_data = {} if args.draft else found.train_data(settings)
            run = {
                "corpus": args.corpus,
                "method": method,
                "seed": seed,
                "digest": results.run_fingerprint(settings),
                **planned.fields,
                **train_data,
                "test_data": test_data,
                "conditions": [item.partition("=")[0] for item in planned.conditions],
                "clean_updates": settings.train.clean_updates,
            }
            runs.append(run)
    return runs


def same_clean_phase(args: argparse.Namespace, found: Modality) -> set[str]:
    """The methods that share the clean phase of args.clean and begin at its end. The others train their own."""

    def clean_settings(method: str) -> dict[str, Any]:
        settings = without_runtime_keys(config.to_dict(read_config(args.conf / f"{method}.yaml", args.overrides)))
        return {key: value for key, value in settings.items() if key not in found.paired_keys}

    clean = clean_settings(args.clean)
    return {method for method in args.methods if clean_settings(method) == clean}


def lists(
    args: argparse.Namespace, missing: list[dict[str, Any]], planned: Planned, sharing: set[str]
) -> dict[str, Commands]:
    """The commands that produce the missing results, by the name of their list. sharing: see `same_clean_phase`."""
    # If there are fewer runs than parallel jobs, each run is evaluated in several parts. The last command joins them.
    parts = -(-args.nj // max(1, len(missing)))
    made: dict[str, Commands] = {name: [] for name in ("clean", "train", "part", "evaluate", "score")}
    asked = ["--wanted", args.lists / "wanted.jsonl"]
    phases = dict.fromkeys(run["seed"] for run in missing if run["clean_updates"] and run["method"] in sharing)
    for seed in phases:
        # The clean phase of a seed is the same for these methods: it is trained once.
        conf = args.conf / f"{args.clean}.yaml"
        exp = args.out / f"clean.{seed}"
        made["clean"].append(
            irl("train", conf, *args.overrides, f"seed={seed}", "--exp", exp, "--stop", "clean", "--anew")
        )
    for run in missing:
        method, seed = run["method"], run["seed"]
        exp = args.out / f"{method}.{seed}"
        start = (
            ["--start", args.out / f"clean.{seed}" / "checkpoint.pt"] if seed in phases and method in sharing else []
        )
        train = [args.conf / f"{method}.yaml", *args.overrides, f"seed={seed}", "--exp", exp, *start, "--anew"]
        made["train"].append(irl("train", *train))
        evaluate = [exp / "checkpoint.pt", "--conditions", *planned.conditions, "--out", exp / "evaluate", *asked]
        line = irl("evaluate", *evaluate, *planned.evaluate)
        split = ["--jobs", str(parts)] if parts > 1 and args.split else []
        made["part"] += [[*line, *split, "--job", str(part)] for part in range(1, parts + 1) if split]
        made["evaluate"].append([*line, *split])
        score = ["--corpus", args.corpus, "--method", method, "--results", args.results, "--conditions"]
        made["score"].append(irl("score", exp, *score, *planned.conditions, *planned.score))
    first = [args.out / f"{method}.{args.seeds[0]}" for method in args.methods]
    made["analyse"] = [irl("analyse", *first, *planned.analyse, "--out", args.lists / "report", *asked)]
    further = {**planned.lists, **{name: commands if missing else [] for name, commands in planned.needed.items()}}
    return {**made, **{name: [irl(*command) for command in commands] for name, commands in further.items()}}


def main() -> None:
    parser = Parser(prog="irl plan", description="List the runs that have no result yet.")
    parser.add_argument("conf", type=Path, help="directory of the methods' configurations")
    parser.add_argument("--methods", nargs="+", required=True)
    # The configuration of a method determines the modality, and the modality determines the remaining options.
    known, _ = parser.parse_known_args([word for word in sys.argv[1:] if word not in ("-h", "--help")])
    task = read_config(known.conf / f"{known.methods[0]}.yaml", []).task
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--clean", help="method that trains the clean phase of a seed; default: the first")
    parser.add_argument("--nj", type=positive, default=1, help="jobs at once")
    parser.add_argument("--split", action="store_true", help="evaluate in parts if there are fewer runs than jobs")
    parser.add_argument("--device", default="", help="device of evaluation; empty: the modality chooses")
    parser.add_argument("--elsewhere", action="store_true", help="jobs run on other machines, whose devices may differ")
    parser.add_argument("--out", type=Path, required=True, help="directory of the runs")
    parser.add_argument("--lists", type=Path, help="directory of the lists; default: --out")
    parser.add_argument("--draft", action="store_true", help="look at no data")
    found = modality(task, str(known.conf))
    found.add_arguments("plan", parser)
    args = parser.parse_intermixed_args()
    args.lists, args.clean = args.lists or args.out, args.clean or args.methods[0]
    for option in ("methods", "seeds", "conditions"):
        given = getattr(args, option)
        if len(set(given)) < len(given):
            raise UserError(f"--{option}: expected each once, found {' '.join(map(str, given))}")
    atomic_io.check_writable(args.results)
    device_named(args.device, here=not args.elsewhere)
    planned = found.planned(args)
    wanted, lines = wanted_runs(args, found, planned), results.read(args.results)
    missing = [run for run in wanted if not any(results.matches(line, run, found) for line in lines)]
    for name, commands in lists(args, missing, planned, same_clean_phase(args, found)).items():
        atomic_io.write(args.lists / f"{name}.list", "".join(shlex.join(command) + "\n" for command in commands))
    atomic_io.write(args.lists / "wanted.jsonl", "".join(json.dumps(run) + "\n" for run in wanted))
    if not args.draft:
        print(f"runs without a result in {args.results}: {len(missing)}")


if __name__ == "__main__":
    run_command(main)
