"""Errors of a classifier of images under test conditions: irl evaluate CHECKPOINT --data TEST.npz --out DIR

--conditions NAME ... as in `irl.vision.conditions.EvaluationConfig`, whose settings come from --settings FILE.yaml and
key=value. Writes OUT/CONDITION.json each; a second run takes up where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from irl.core import atomic_io, config
from irl.core.errors import run_command
from irl.core.logging import log_to, logger, progress
from irl.data import images
from irl.reporting import results
from irl.training import checkpoint
from irl.vision.classifier import Classifier, Test
from irl.vision.conditions import read_settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl evaluate", description="Errors under test conditions.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="test set, .npz")
    parser.add_argument("--conditions", nargs="+", required=True)
    parser.add_argument("--settings", type=Path, required=True, help="YAML file of EvaluationConfig")
    parser.add_argument("--test", nargs="*", default=[], metavar="key=value", help="overrides of --settings")
    parser.add_argument("--corruptions", type=Path, default=Path("."), help="folder in the layout of CIFAR-10-C")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    log_to(args.out / "evaluate.log")
    settings = read_settings(args.settings, args.test)
    data = images.read(args.data)
    test = Test(Classifier(args.checkpoint, args.device), data, settings, args.corruptions)
    weights = checkpoint.file_fingerprint(args.checkpoint)
    settings.check(args.conditions)
    for name in args.conditions:
        mark = {"weights": weights, "data": test.data_fingerprint(name), "options": config.to_dict(settings)}
        path = args.out / args.data.stem / f"{name}.json"
        if path.exists() and json.loads(path.read_text())["mark"] == mark:
            logger.info(f"{path}: already evaluated in this way")
            continue
        begin = time.monotonic()
        wrong, tried = test.errors(name, args.batch_size, lambda b: progress(b, name, unit="batch"))
        found = {"errors": results.pack(wrong), "reference": results.pack(tried)}
        seconds = round(time.monotonic() - begin, 2)
        atomic_io.write(path, json.dumps({"mark": mark, **found, "seconds": seconds}) + "\n")
        rate = wrong.sum() / tried.sum()
        logger.info(f"{path}: error {rate:.2%} on {(tried > 0).sum()} images, {seconds} s")


if __name__ == "__main__":
    run_command(main)
