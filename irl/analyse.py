"""How far hidden states move under noise: python -m irl.analyse RUN ... --clean DIR --noisy DIR --out OUT

For classifiers of images --clean is a test set and --noisy a condition of it, in or out, as --settings FILE defines it.
For language models --clean is a text and --noisy a kind of noise on its words, as often as in the run's training.

For every run (a directory METHOD.SEED with a checkpoint) and layer, in forward order, OUT/distances.csv holds means
over utterances of means over frames (of a text: over rows of words), or over images with each feature map as one
vector: the L2 distance between clean
and noisy activations divided by the mean norm of the clean ones, the cosine distance, that norm, as scales the same
distances between different utterances or images, and the effective rank of the clean activations (of images, of the
positions of their feature maps). OUT/distances.png and .svg are the paper's Figures 2 and 3, one curve a method, with
norms and ranks beside them: distances that fall because activations shrink or collapse would show there. A run whose
checkpoint is gone is left out, and named.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any, Iterable, Iterator

import torch

from irl import checkpoint, command
from irl.errors import UserError
from irl.objective import L2, Cosine, IRLLoss
from irl.tasks.measured import Scatter, layer_norms, valid_frames
from irl.types import Output, next_example, tree_map

MEASURE = IRLLoss(alpha=0, beta=0, gamma=1, distance=L2() + Cosine())
COLUMNS = ("l2", "cosine", "norm", "l2_between", "cosine_between")
RANK = "effective_rank"


Views = tuple[Output, Output]  # of the same examples, clean and noisy


def batches(count: int, size: int) -> Iterable[slice]:
    """A last example that would be alone, with no other to be compared with, joins the batch before it."""
    begins = list(range(0, count - 1, size))
    return command.progress([slice(*ends) for ends in zip(begins, [*begins[1:], None])], "analyse", unit="batch")


def of_speech(run: Path, clean: Path, noisy: Path, batch_size: int = 8) -> Iterator[Views]:
    """A recogniser on a data directory and its noisy copy, the reference fed to the decoder."""
    from irl.data.features import pad_waves
    from irl.data.kaldi import read_data_dir, read_wave
    from irl.tasks.recogniser import Recogniser
    from irl.tasks.search_options import SearchOptions

    recogniser = Recogniser(run / "checkpoint.pt", SearchOptions("attention"))
    pairs = [read_data_dir(path) for path in (clean, noisy)]
    if [u.id for u in pairs[0]] != [u.id for u in pairs[1]]:
        raise UserError(f"{noisy}: has not the utterances of {clean}")
    vocabulary, features = recogniser.vocabulary, recogniser.features
    for rows in batches(len(pairs[0]), batch_size):
        targets = [
            torch.tensor([vocabulary.eos, *vocabulary.encode(u.text or "", f"{clean}: {u.id}")]) for u in pairs[0][rows]
        ]
        y = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
        y_lens = torch.tensor([len(t) for t in targets])
        views = []
        for side in pairs:
            x, x_lens = features.batch(*pad_waves([read_wave(u, features.config.rate) for u in side[rows]]))
            views.append(recogniser.model(x, x_lens, y, y_lens))
        yield views[0], views[1]


def of_images(
    run: Path, clean: Path, condition: str, settings: Any, device: str, batch_size: int = 100
) -> Iterator[Views]:
    """A classifier on a test set and its noisy copy."""
    from irl.data import images
    from irl.noise.image import ImageNoise
    from irl.tasks.classifier import Classifier, test_keys

    classifier, data = Classifier(run / "checkpoint.pt", device), images.read(clean)
    noise = ImageNoise(settings.noise(condition), classifier.statistics.directions)
    for rows in batches(len(data), batch_size):
        x = classifier.inputs(data.images[rows])
        noisy = noise.apply(x, noise.draw(test_keys(data, rows, condition, device), x.shape[2:]))
        yield classifier.outputs(x), classifier.outputs(noisy)


def of_text(run: Path, text: Path, kind: str, device: str, row: int = 50) -> Iterator[Views]:
    """A language model on a text, read as one row, and on a copy with noise; its words are then cut into rows."""
    from irl.data.text import WordVocabulary
    from irl.noise.text import WordNoise
    from irl.perplexity import load
    from irl.random import Keys
    from irl.tasks.language import EVALUATED, read_through

    model, vocabulary, config = load(run / "checkpoint.pt", device)
    words = vocabulary.encode(text).to(device)
    counts = WordVocabulary.read(Path(config.vocabulary)).counts if kind == "unigram" else [1] * len(vocabulary)
    try:
        noise = WordNoise(dataclasses.replace(config.noise, kind=kind), torch.tensor(counts))
    except ValueError as error:
        raise UserError(f"--noisy: {error}") from None
    noisy = noise.apply(words, noise.draw(Keys(torch.arange(len(words), device=device), 0, "noise/test", 0, 1)))
    chunks = command.progress(None, "analyse", total=-(-(len(words) - 1) // EVALUATED), unit="chunk")
    with chunks:
        for _, views in read_through(model, [words, noisy]):
            if views[0].logits.shape[1] >= 2 * row:
                clean, moved = (in_rows(view, row) for view in views)
                yield clean, moved
            chunks.update()


def in_rows(view: Output, size: int) -> Output:
    """One row of T positions as T // size rows, what is left over left out."""
    count = view.logits.shape[1] // size
    cut = lambda x: x[0, : count * size].unflatten(0, (count, size))  # noqa: E731
    lens = torch.full((count,), size, device=view.logits.device)
    return Output(cut(view.logits), tree_map(cut, view.hidden), dict.fromkeys(view.lens, lens))


@torch.no_grad()
def measure(pairs: Iterable[Views]) -> dict[str, dict[str, float]]:
    """{layer: {column: value}} over batches of views."""
    sums: dict[str, dict[str, float]] = {}
    scatter: dict[str, Scatter] = {}
    count = 0
    for clean, noisy in pairs:
        between = next_example(clean)
        moved, scale = (MEASURE.compare(*pair)[2] for pair in ((clean, [noisy]), (between, [clean])))
        values = (moved["l2"], moved["cosine"], layer_norms(clean), scale["l2"], scale["cosine"])
        rows = len(clean.logits)
        count += rows
        for layer, vectors in valid_frames(clean).items():
            scatter.setdefault(layer, Scatter()).add(vectors)
        for column, layers in zip(COLUMNS, values):
            for layer, value in layers.items():
                line = sums.setdefault(layer, dict.fromkeys(COLUMNS, 0.0))
                line[column] += rows * float(value)
    if not count:
        raise UserError("at least 2 examples are needed")
    means = {layer: {c: v / count for c, v in line.items()} for layer, line in sums.items()}
    for layer, line in means.items():
        line[RANK] = scatter[layer].effective_rank()
        line["l2"], line["l2_between"] = line["l2"] / line["norm"], line["l2_between"] / line["norm"]
    return means


def views_of(run: Path, args: argparse.Namespace) -> Iterator[Views]:
    task = checkpoint.load(run / "checkpoint.pt")["config"].get("task")
    if task == "speech":
        return of_speech(run, args.clean, args.noisy)
    if task == "language":
        return of_text(run, args.clean, str(args.noisy), args.device)
    if task != "vision":
        raise UserError(f"{run}: task {task} has nothing to analyse")
    if args.settings is None:
        raise UserError(f"{run}: a classifier of images needs --settings")
    from irl.tasks.evaluation import read_settings

    return of_images(run, args.clean, str(args.noisy), read_settings(args.settings, args.test), args.device)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.analyse", description="Distances between layers under noise.")
    parser.add_argument("runs", type=Path, nargs="+", help="directories METHOD.SEED with a checkpoint")
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument(
        "--noisy", type=Path, required=True, help="noisy copy of the same utterances, a condition, a kind"
    )
    parser.add_argument("--settings", type=Path, help="of irl.evaluate, for classifiers")
    parser.add_argument("--test", nargs="*", default=[], metavar="key=value", help="overrides of --settings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", help="of classifiers and language models")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for run in args.runs:
        if not (run / "checkpoint.pt").exists():
            print(f"{run}: no checkpoint, left out; train it again with another --results to have it here")
            continue
        found[run.name] = measure(views_of(run, args))
    if not found:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "distances.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "layer", *COLUMNS, RANK])
        for name, layers in found.items():
            for layer, row in layers.items():
                writer.writerow([name, layer, *(f"{row[c]:.5g}" for c in (*COLUMNS, RANK))])
    from irl.figures import curves

    curves(found, args.out / "distances", f"clean against noisy activations, {args.noisy.name}")
    summary = {
        name: round(sum(r["cosine"] for r in layers.values()) / len(layers), 4) for name, layers in found.items()
    }
    print(f"mean cosine distance over layers: {json.dumps(summary)}")
    print(f"distances: {args.out / 'distances.csv'}   figure: {args.out / 'distances.png'}")


if __name__ == "__main__":
    command.run_command(main)
