"""The tables of the page integrations/measured.md: plain training, IRL batching, IRL loss, in loops of others.

    python tools/docs/measure.py timm CIFAR10        # folder of {train,test}-00000-of-00001.parquet
    python tools/docs/measure.py espnet FSDD         # folder of {digit}_{speaker}_{index}.wav
    python tools/docs/measure.py                     # only the tables, of the results that there are

Each method is trained with three seeds by the example of that name, and tested under the example's conditions. Each
finished run is a line of results/NAME.jsonl; runs that have one are not repeated.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import itertools
import json
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "examples"))

from irl.core import atomic_io  # noqa: E402
from irl.core.provenance import commit  # noqa: E402
from irl.reporting import results  # noqa: E402
from irl.reporting.markdown import insert  # noqa: E402
from irl.reporting.table import Table  # noqa: E402
from irl.reporting.table_config import TableConfig  # noqa: E402
from irl.training.modality import MetricSpec, Modality  # noqa: E402

PAGE = HERE / "pages" / "integrations" / "measured.md"
METHODS = {"baseline": "plain training", "irl_batching": "IRL batching", "irl_loss": "IRL loss"}
TESTS = (("irl_loss", "irl_batching"), ("irl_batching", "baseline"), ("irl_loss", "baseline"))
SEEDS = (1, 2, 3)
METRICS = {
    "timm": MetricSpec("test error", "%", "images", True),
    "espnet": MetricSpec("digit error rate", "%", "utterances", True),
}


class Foreign(Modality):
    """What the table asks of a modality, for runs of an example."""

    def __init__(self, name: str) -> None:
        self.name, self.metric = name, METRICS[name]


Counts = dict[str, tuple[np.ndarray, np.ndarray]]


class Example(NamedTuple):
    """train(method, seed) -> a model. test(model) -> errors and what they are divided by, each (N,), by condition."""

    updates: int
    train: Callable[[str, int], Any]
    test: Callable[[Any], Counts]


def timm(folder: Path) -> Example:
    import timm_images as example

    images, labels = (x[:4000] for x in example.read(folder, "train"))
    unseen = example.read(folder, "test")

    def test(net: Any) -> Counts:
        wrong = {c: example.errors(net, *unseen, c) for c in example.TEST_NOISES}
        return {c: (e, np.ones_like(e)) for c, e in wrong.items()}

    train = lambda method, seed: example.train(images, labels, method, seed, epochs=4)  # noqa: E731
    return Example(4 * (4000 // 64), train, test)


def espnet(folder: Path) -> Example:
    import espnet_digits as example

    work = Path(tempfile.mkdtemp(prefix="espnet_digits."))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    example.prepare(folder, work)
    return Example(example.UPDATES, functools.partial(example.train, work), functools.partial(example.test, work))


EXAMPLES = {"timm": timm, "espnet": espnet}


def measure(name: str, source: Path) -> None:
    path = HERE / "results" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    example = EXAMPLES[name](source)
    for seed, method in itertools.product(SEEDS, METHODS):
        lines = results.read(path, results.RUN)
        if any((line["method"], line["seed"]) == (method, seed) for line in lines):
            continue
        begin = time.process_time()
        model = example.train(method, seed)
        seconds = time.process_time() - begin
        counts = {
            condition: {"errors": results.pack(errors), "reference": results.pack(reference), "data": condition}
            for condition, (errors, reference) in example.test(model).items()
        }
        line = {
            "corpus": name, "method": method, "seed": seed, "digest": f"{method}.{seed}", "decode": {},
            "updates": example.updates, "train_seconds": seconds, "conditions": counts, "commit": commit(),
            "versions": {package: version(package) for package in ("torch", name)},
            "config": {"task": name, "train": {"clean_updates": 0}},
        }  # fmt: skip
        atomic_io.write(path, "".join(json.dumps(row) + "\n" for row in [*lines, line]))


def tables(page: Path = PAGE) -> None:
    """Renew the tables of a page."""
    for name in METRICS:
        lines = results.read(HERE / "results" / f"{name}.jsonl", results.SHOWN)
        if lines:
            insert(page, name, Table(lines, Foreign(name), TableConfig(METHODS, TESTS)), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=METRICS, nargs="?")
    parser.add_argument("source", type=Path, nargs="?")
    args = parser.parse_args()
    if args.name and args.source is None:
        parser.error(f"{args.name} needs the folder of its data")
    torch.set_num_threads(1)
    if args.name:
        measure(args.name, args.source)
    tables()


if __name__ == "__main__":
    main()
