"""How far hidden states move under noise: irl analyse RUN ... --clean DIR --noisy DIR --out OUT

For classifiers of images --clean is a test set and --noisy a condition of it, in or out, as --settings FILE defines it.
For language models --clean is a text and --noisy a kind of noise on its words, as often as in the run's training.

For every run (a directory METHOD.SEED with a checkpoint) and layer, in forward order, OUT/distances.csv holds means
over utterances of means over frames (of a text: over rows of words), or over images with each feature map as one
vector: the L2 distance between clean and noisy activations divided by the mean norm of the clean ones, the cosine
distance, that norm, as scales the same distances between different utterances or images, the effective rank of the
clean activations (of images, of the positions of their feature maps), and the norm of the layer's Jacobian by the
input, |J_l|_F, the root of the mean of its square, with its standard error. OUT/distances.png and .svg are the paper's
Figures 2 to 4, one curve a method, with norms and ranks beside them: distances that fall because activations shrink or
collapse would show there, and a model to which all inputs look alike in the distance between clean-noisy pairs over that between
others. A run whose checkpoint is gone is left out, and named.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any, Iterator

from irl.core.errors import UserError, run_command
from irl.language.analysis import of_text
from irl.reporting.pairs import COLUMNS, DERIVED, LayerPair, measure
from irl.speech.analysis import of_speech
from irl.training import checkpoint
from irl.vision.analysis import of_images


def layer_pairs(run: Path, args: argparse.Namespace) -> Iterator[LayerPair]:
    task = checkpoint.load(run / "checkpoint.pt")["config"].get("task")
    if task == "speech":
        return of_speech(run, args.clean, args.noisy)
    if task == "language":
        return of_text(run, args.clean, str(args.noisy), args.device)
    if task != "vision":
        raise UserError(f"{run}: task {task} has nothing to analyse")
    if args.settings is None:
        raise UserError(f"{run}: a classifier of images needs --settings")
    from irl.vision.conditions import read_settings

    return of_images(run, args.clean, str(args.noisy), read_settings(args.settings, args.test), args.device)


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl analyse", description="Distances between layers under noise.")
    parser.add_argument("runs", type=Path, nargs="+", help="directories METHOD.SEED with a checkpoint")
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument(
        "--noisy", type=Path, required=True, help="noisy copy of the same utterances, a condition, a kind"
    )
    parser.add_argument("--settings", type=Path, help="of irl evaluate, for classifiers")
    parser.add_argument("--test", nargs="*", default=[], metavar="key=value", help="overrides of --settings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", help="of classifiers and language models")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for run in args.runs:
        if not (run / "checkpoint.pt").exists():
            print(f"{run}: no checkpoint, left out; train it again with another --results to have it here")
            continue
        found[run.name] = measure(layer_pairs(run, args))
    if not found:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "distances.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "layer", *COLUMNS, *DERIVED])
        for name, layers in found.items():
            for layer, row in layers.items():
                writer.writerow([name, layer, *(f"{row[c]:.5g}" for c in (*COLUMNS, *DERIVED))])
    from irl.reporting.figures import curves

    curves(found, args.out / "distances", f"clean against noisy activations, {args.noisy.name}")
    summary = {
        name: round(sum(r["cosine"] for r in layers.values()) / len(layers), 4) for name, layers in found.items()
    }
    print(f"mean cosine distance over layers: {json.dumps(summary)}")
    print(f"distances: {args.out / 'distances.csv'}   figure: {args.out / 'distances.png'}")


if __name__ == "__main__":
    run_command(main)
