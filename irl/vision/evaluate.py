"""Errors of a classifier of images under test conditions, one file OUT/TEST_SET/CONDITION.json each."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from irl.core import atomic_io, config
from irl.core.arguments import positive
from irl.core.fingerprint import file_fingerprint, read_product, write_product
from irl.core.logging import log_to, logger
from irl.core.machine import device_named
from irl.data import images
from irl.noise import corruptions
from irl.noise.corruptions import SEVERITIES
from irl.reporting.results import pack
from irl.training.modality import Planned
from irl.vision.classifier import Classifier, Test, corrupted_folder, data_fingerprint
from irl.vision.conditions import EvaluationConfig, read_settings
from irl.vision.prepare import set_fingerprint


def add_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """Options of every command that looks at a test set of images."""
    if command in ("plan", "evaluate", "validate"):
        parser.add_argument("--corruptions", type=Path, help="folder in the layout of CIFAR-10-C")
    if command == "validate":
        parser.add_argument("--conditions", nargs="*", default=[], help="test conditions that the last set must suit")
        return
    if command != "analyse":
        parser.add_argument("--data", type=Path, required=True, help="test set, .npz")
    if command == "score":
        return
    parser.add_argument("--settings", type=Path, required=True, help=f"YAML file of {EvaluationConfig.__name__}")
    parser.add_argument("--test", nargs="*", default=[], metavar="key=value", help="overrides of --settings")
    if command == "evaluate":
        parser.add_argument("--batch-size", type=positive, default=250)
        parser.add_argument("--device", default="", help="cpu or cuda; empty: a GPU where there is one")


def planned(args: argparse.Namespace) -> Planned:
    settings = read_settings(args.settings, args.test)
    settings.check(args.conditions)
    shared = ["--data", str(args.data)]
    given = ["--settings", str(args.settings), *(["--test", *args.test] if args.test else [])]
    given += ["--device", args.device] if args.device else []
    return Planned(
        args.conditions,
        {"decode": config.to_dict(settings)},
        [*shared, *given, *(["--corruptions", str(args.corruptions)] if args.corruptions else [])],
        shared,
        ["--clean", str(args.data), "--noisy", "in", *given],
    )


def test_data(conditions: Sequence[str], args: argparse.Namespace) -> dict[str, str]:
    """Of each condition on args.data; of corruptions where args tell what they are."""
    own, settings = set_fingerprint(args.data), getattr(args, "settings", None)
    folder = None if settings is None else corrupted_folder(read_settings(settings, args.test), args.corruptions)
    known = {name: own for name in conditions if name != "corruption"}
    if folder is None or not own or not folder.is_dir():
        return {**dict.fromkeys(conditions, ""), **known}
    return {name: data_fingerprint(own, name, folder) for name in conditions}


def evaluate(args: argparse.Namespace) -> None:
    """Errors of args.checkpoint on args.data under each of args.conditions."""
    log_to(args.out / "evaluate.log")
    settings = read_settings(args.settings, args.test)
    settings.check(args.conditions)
    classifier = Classifier(args.checkpoint, device_named(args.device))
    content = images.read(args.data)
    own, folder = content.digest(), corrupted_folder(settings, args.corruptions) or Path(".")
    test = Test(classifier, content, settings, folder)
    made_of = {"weights": file_fingerprint(args.checkpoint), "options": config.to_dict(settings)}
    for name in args.conditions:
        fingerprint = {**made_of, "data": data_fingerprint(own, name, folder)}
        path = args.out / args.data.stem / f"{name}.json"
        if read_product(path, fingerprint, "errors", "reference") is not None:
            logger.info(f"{path}: already evaluated in this way")
            continue
        begin = time.monotonic()
        wrong, tried, by_view = test.errors(name, args.batch_size)
        counts: dict[str, Any] = {"errors": pack(wrong), "reference": pack(tried)}
        count = int((tried > 0).sum())
        if name == "corruption":
            counts["kinds"] = dict(zip(corruptions.names(folder), by_view.reshape(-1, SEVERITIES).tolist()))
            table = path.with_name("unaggregated_results.csv")
            atomic_io.write(table, accuracies(args.checkpoint.parent.name, counts["kinds"], count))
            for kind, found in counts["kinds"].items():
                logger.info(f"{kind}: error {sum(found) / count / SEVERITIES:.2%}")
        seconds = round(time.monotonic() - begin, 2)
        write_product(path, fingerprint, **counts, seconds=seconds)
        logger.info(f"{path}: error {wrong.sum() / tried.sum():.2%} on {count} images, {seconds} s")


def accuracies(model: str, kinds: Mapping[str, Sequence[int]], images: int) -> str:
    """Accuracy by corruption and severity in the layout of RobustBench's unaggregated_results.csv: two lines of heads
    and a line for the model. kinds: images that were wrong at each severity."""
    heads = [(kind, severity) for kind, found in kinds.items() for severity in range(1, len(found) + 1)]
    lines = [["", *(kind for kind, _ in heads)], ["", *(str(severity) for _, severity in heads)]]
    lines.append([model, *(f"{1 - kinds[kind][severity - 1] / images:.6g}" for kind, severity in heads)])
    return "".join(",".join(line) + "\n" for line in lines)
