"""Memory over a long run: the small recipes of the tests trained for many updates, each in a process of its own.

Everything that a long run does often is done often: evaluations, checkpoints, best weights, log lines. Prints the
resident memory after 1,000 updates and at the end; OUT.png and OUT.svg show it on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import KEEP_MEMORY, machine

from irl.core.errors import run_command
from irl.reporting.figures import save_figure

ROOT = Path(__file__).parents[2]
# Only what it begins runs for long.
os.environ.update({**KEEP_MEMORY, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
sys.path.insert(0, str(ROOT / "tests"))
OFTEN = ["train.log_every=200", "train.save_every=200", "train.eval_every=400", "train.average=2", "train.workers=1"]


def train(recipe: str, updates: int, folder: Path) -> dict[int, float]:
    """MB by update."""
    import pictures
    import tiny
    import words

    {"speech": tiny, "vision": pictures, "language": words}[recipe].build_recipe(folder)
    settings = ["irl_loss.yaml", *OFTEN, f"train.updates={updates}"]
    command = [sys.executable, "-m", "irl.bin.train", *settings, "--exp", "exp"]
    subprocess.run(command, cwd=folder, check=True)
    lines = [json.loads(line) for line in (folder / "exp/metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["memory_mb"] for line in lines if "memory_mb" in line}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=20000)
    parser.add_argument(
        "--recipes", nargs="+", choices=("speech", "vision", "language"), default=["speech", "vision", "language"]
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("soak"))
    args = parser.parse_args()
    if args.updates < 1000:
        parser.error(f"--updates must be at least 1000, got {args.updates}")
    found = {}
    for recipe in args.recipes:
        with tempfile.TemporaryDirectory() as folder:
            found[recipe] = train(recipe, args.updates, Path(folder))
    print(
        "## Resident memory over a long run, MB\n\n| | after 1,000 updates | after",
        f"{args.updates:,} updates | maximum |\n|---|---|---|---|",
    )
    for recipe, memory in found.items():
        print(f"| {recipe} | {memory[1000]:.0f} | {memory[args.updates]:.0f} | {max(memory.values()):.0f} |")
    print(f"\n![Resident memory]({args.out.name}.png)\n\n{machine()}.\n")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    fig, ax = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for (recipe, memory), style in zip(found.items(), ("-", "--", ":")):
        ax.plot(list(memory), list(memory.values()), style, color="black", label=recipe)
    ax.set(xlabel="update", ylabel="resident memory, MB", ylim=(0, None))
    ax.legend(frameon=False)
    save_figure(fig, args.out)


if __name__ == "__main__":
    run_command(main)
