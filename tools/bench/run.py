"""Run every benchmark under the same settings and write tools/bench/RESULTS.md. Called by `make bench`.

Each benchmark runs in its own process, with one thread and an allocator that keeps freed memory, for us and for peers
alike. Machines differ and drift: compare the ratios within a table, not its times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from harness import KEEP_MEMORY

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
BENCHMARKS = {
    "encoder_decoder": ["encoder_decoder.py"],
    "irl_step": ["irl_step.py"],
    "irl_step_fsdd": ["irl_step.py", "--size", "fsdd", "--all"],
    "search": ["search.py"],
    "noise": ["noise.py"],
    "features": ["features.py"],
    "scoring": ["scoring.py"],
    "images": ["images.py"],
    "wide_resnet": ["wide_resnet.py"],
    "language_model": ["language_model.py"],
    "language_model_1500": ["language_model.py", "--units", "1500", "--rounds", "10"],
    "jacobian": ["jacobian.py"],
    "lambda_r": ["lambda_r.py", "--rounds", "12"],
    "precision": ["precision.py", "--rounds", "20"],
    "methods": ["methods.py", "--rounds", "12"],
    "processes": ["processes.py", "--updates", "16", "--rounds", "6"],
    "processes_language": ["processes.py", "--model", "language", "--updates", "80", "--rounds", "6"],
    "cost": ["cost.py", "--rounds", "6", "--batch-size", "8"],
}
HEAD = """# Benchmarks

`make bench` (`tools/bench/run.py`) writes the sections on speed. Long runs, large sets and the GPU have scripts of
their own. In each round every alternative runs once. Within a round, the time of each alternative is divided by the
time of the alternative in the column's head. The table shows the median of these ratios over all rounds, with a 95 %
interval.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS), help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--checkpoint", type=Path, help="a trained model for the search")
    parser.add_argument("--data", type=Path, help="data directory for the search, paths in it relative to here")
    args = parser.parse_args()
    environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": "1"}
    for name in args.names:
        if name not in BENCHMARKS:
            sys.exit(f"error: unknown benchmark {name}, known are {', '.join(BENCHMARKS)}")
        script, *options = BENCHMARKS[name]
        if name == "search":
            if args.checkpoint is None or args.data is None:
                print("search: left out, it needs a trained model: --checkpoint FILE --data DIR", file=sys.stderr)
                continue
            options += [str(args.checkpoint), "--data", str(args.data)]
        print(f"{name} ...", file=sys.stderr)
        command = [sys.executable, str(HERE / script), "--rounds", str(args.rounds), *options]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"error: {name}: ended with status {done.returncode}")
        save(done.stdout)
        print(f"{name}: in {RESULTS}", file=sys.stderr)


def save(section: str) -> None:
    """Renew the section of that title, so that an interrupted series loses nothing and one can be run again alone."""
    _, *old = (RESULTS.read_text() if RESULTS.exists() else HEAD).split("\n## ")
    sections = {part.partition("\n")[0]: part.strip() for part in old}
    new = section.strip().removeprefix("## ")
    sections[new.partition("\n")[0]] = new
    RESULTS.write_text(HEAD + "".join(f"\n## {part}\n" for part in sections.values()))


if __name__ == "__main__":
    main()
