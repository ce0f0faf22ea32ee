"""Measure how far hidden states move under noise: irl analyse RUN ... --clean TEST --noisy COPY --out OUT

TEST and COPY depend on the modality. Speech: a data directory and its noisy copy. Images: a set of images and a
condition on colours (--settings FILE). Text: a text and a kind of word noise, with the probability of the run's
training.

OUT/distances.csv has one line for every run (a directory METHOD.SEED with a checkpoint) and layer, in forward order,
with means over the test set. Utterances are compared frame by frame, texts in rows of words, and the feature maps of an
image as one vector. The columns are
  the L2 distance between clean and noisy activations divided by the mean norm of the clean ones,
  the cosine distance between clean and noisy activations,
  the mean norm of the clean activations,
  the same two distances between different examples, as a scale, and the first L2 distance divided by that,
  the effective rank of the clean activations, and
  the norm of the layer's Jacobian with respect to the input, |J_l|_F (root mean square), with its standard error.
OUT/distances.png and .svg are the paper's Figures 2 to 4, one curve for each method. They also show norms and ranks,
because distances fall too when activations shrink or collapse. Runs without a checkpoint are skipped and reported.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from irl.bin.arguments import first_word, modality_of
from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.fingerprint import file_fingerprint, read_product, write_product
from irl.core.machine import device_named
from irl.reporting.pairs import COLUMNS, DERIVED, measure
from irl.reporting.results import check_wanted
from irl.reporting.table_config import read_table_config
from irl.training.modality import Modality


def measured(run: Path, modality: Modality, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """{layer: {column: value}} of a run, kept in OUT/layers for the next time."""
    fingerprint = {"weights": file_fingerprint(run / "checkpoint.pt"), **modality.pairs_fingerprint(args)}
    path = args.out / "layers" / f"{run.name}.json"
    product = read_product(path, fingerprint, "layers")
    if product is None:
        product = {"layers": measure(modality.layer_pairs(run, args))}
        write_product(path, fingerprint, **product)
    layers: dict[str, dict[str, float]] = product["layers"]
    return layers


def main() -> None:
    description = "Measure how far hidden states move under noise."
    parser = Parser(prog="irl analyse", description=description)
    parser.add_argument("runs", type=Path, nargs="+", help="directories METHOD.SEED with a checkpoint")
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--noisy", type=Path, required=True, help="noisy copy, condition or kind of noise")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="labels of methods; default: conf/table.yaml, if it exists")
    parser.add_argument("--device", default="cpu", help="device for images and texts")
    parser.add_argument("--wanted", type=Path, help="file of irl plan: leave out weights that are of none of its runs")
    first_word("analyse", "runs", description)
    known, _ = parser.parse_known_args()
    runs = []
    for run in known.runs:
        if not (run / "checkpoint.pt").exists():
            print(f"{run}: no checkpoint, left out; train it again with another --results to have it here")
            continue
        try:
            check_wanted(run / "checkpoint.pt", known.wanted)
            runs.append(run)
        except UserError as error:
            print(f"left out: {error}")
    if not runs:
        return
    modality = modality_of(runs[0] / "checkpoint.pt")
    modality.add_arguments("analyse", parser)
    args = parser.parse_args()
    for run in runs:
        if modality_of(run / "checkpoint.pt") is not modality:
            raise UserError(f"{run}: not a run of task {modality.name}, as {runs[0]} is")
    device_named(args.device)
    rows: dict[str, Any] = {run.name: measured(run, modality, args) for run in runs}
    with open(args.out / "distances.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "layer", *COLUMNS, *DERIVED])
        for name, layers in rows.items():
            for layer, row in layers.items():
                writer.writerow([name, layer, *(f"{row[c]:.5g}" for c in (*COLUMNS, *DERIVED))])
    from irl.reporting.figures import curves

    title = f"clean against noisy activations, {args.noisy.name}"
    curves(rows, args.out / "distances", title, read_table_config(args.table))
    means = {name: round(sum(r["cosine"] for r in layers.values()) / len(layers), 4) for name, layers in rows.items()}
    print(f"mean cosine distance over layers: {json.dumps(means)}")
    print(f"distances: {args.out / 'distances.csv'}   figure: {args.out / 'distances.png'}")


if __name__ == "__main__":
    run_command(main)
