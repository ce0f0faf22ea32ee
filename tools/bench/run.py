"""Run every benchmark under the same settings and write tools/bench/RESULTS.md. Called by `make bench`.

Each is a process of its own, with one thread and an allocator that keeps freed memory, for us and for peers alike.
Machines differ and drift: the ratios within a table are what to read, not its times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from harness import KEEP_MEMORY

HERE = Path(__file__).parent
BENCHMARKS = {
    "encoder_decoder": ["encoder_decoder.py"],
    "irl_step": ["irl_step.py"],
    "irl_step_fsdd": ["irl_step.py", "--size", "fsdd"],
    "search": ["search.py"],
    "noise": ["noise.py"],
    "features": ["features.py"],
    "scoring": ["scoring.py"],
}
HEAD = """# Benchmarks

Written by `make bench` (`tools/bench/run.py`). In each round every alternative runs once; a ratio is the median over
rounds of its time divided by ours in the same round, with a 95 % interval: above 1 ours is faster.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS), help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--checkpoint", type=Path, help="a trained model for the search")
    parser.add_argument("--data", type=Path, help="data directory for the search")
    args = parser.parse_args()
    parts = HERE / "results"
    parts.mkdir(exist_ok=True)
    environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": "1"}
    for name in args.names:
        if name not in BENCHMARKS:
            sys.exit(f"error: unknown benchmark {name}, known are {', '.join(BENCHMARKS)}")
        script, *options = BENCHMARKS[name]
        if name == "search":
            if args.checkpoint is None or args.data is None:
                print("search: needs --checkpoint and --data, left out", file=sys.stderr)
                continue
            options += [str(args.checkpoint), "--data", str(args.data)]
        print(f"{name} ...", file=sys.stderr)
        command = [sys.executable, str(HERE / script), "--rounds", str(args.rounds), *options]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"error: {name}: ended with status {done.returncode}")
        # A part for each benchmark, so that an interrupted series loses nothing and one can be run again alone.
        (parts / f"{name}.md").write_text(done.stdout)
    found = [parts / f"{name}.md" for name in BENCHMARKS if (parts / f"{name}.md").exists()]
    (HERE / "RESULTS.md").write_text(HEAD + "\n".join(path.read_text().strip() + "\n" for path in found))
    print(f"results: {HERE / 'RESULTS.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
