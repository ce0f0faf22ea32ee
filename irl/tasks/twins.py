"""Examples of a test set beside their noisy copies as a trained model sees them, whatever the task, for analysis."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple

import torch
from torch import Tensor

from irl import command
from irl.errors import UserError
from irl.objective.smoothness import lambda_r
from irl.types import Output, tree_map


class Twins(NamedTuple):
    """Outputs for a batch of N examples and for their noisy copies, and for each layer |J_l xi|^2 of the clean ones,
    (N,), with xi ~ N(0, I) on the input, normalised images, features or embeddings, so that its mean is |J_l|_F^2; of
    layers with lengths a mean over frames."""

    clean: Output
    noisy: Output
    squares: dict[str, Tensor]


def batches(count: int, size: int) -> Iterable[slice]:
    """A last example that would be alone, with no other to be compared with, joins the batch before it."""
    begins = list(range(0, count - 1, size))
    return command.progress([slice(*ends) for ends in zip(begins, [*begins[1:], None])], "analyse", unit="batch")


def of_speech(run: Path, clean: Path, noisy: Path, batch_size: int = 8) -> Iterator[Twins]:
    """A recogniser on a data directory and its noisy copy, the reference fed to the decoder."""
    from irl.data.features import pad_waves
    from irl.data.kaldi import read_data_dir, read_wave
    from irl.tasks.recogniser import Recogniser
    from irl.tasks.search_options import SearchOptions

    recogniser = Recogniser(run / "checkpoint.pt", SearchOptions("attention"))
    pairs = [read_data_dir(path) for path in (clean, noisy)]
    if [u.id for u in pairs[0]] != [u.id for u in pairs[1]]:
        raise UserError(f"{noisy}: has not the utterances of {clean}")
    vocabulary, features, generator = recogniser.vocabulary, recogniser.features, torch.Generator().manual_seed(0)
    for rows in batches(len(pairs[0]), batch_size):
        targets = [
            torch.tensor([vocabulary.eos, *vocabulary.encode(u.text or "", f"{clean}: {u.id}")]) for u in pairs[0][rows]
        ]
        y = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
        y_lens = torch.tensor([len(t) for t in targets])
        inputs = []
        for side in pairs:
            x, x_lens = features.batch(*pad_waves([read_wave(u, features.config.rate) for u in side[rows]]))
            inputs.append((x, x_lens, y, y_lens))
        views = [recogniser.model(*each) for each in inputs]
        yield Twins(views[0], views[1], lambda_r(recogniser.model, inputs[0], generator=generator))


def of_images(
    run: Path, clean: Path, condition: str, settings: Any, device: str, batch_size: int = 100
) -> Iterator[Twins]:
    """A classifier on a test set and its noisy copy."""
    from irl.data import images
    from irl.noise.image import ImageNoise
    from irl.tasks.classifier import Classifier, test_keys

    classifier, data = Classifier(run / "checkpoint.pt", device), images.read(clean)
    noise = ImageNoise(settings.noise(condition), classifier.statistics.directions)
    generator = torch.Generator(device).manual_seed(0)
    for rows in batches(len(data), batch_size):
        x = classifier.inputs(data.images[rows])
        noisy = noise.apply(x, noise.draw(test_keys(data, rows, condition, device), x.shape[2:]))
        squares = lambda_r(classifier.model, classifier.statistics.normalise(x), generator=generator)
        yield Twins(classifier.outputs(x), classifier.outputs(noisy), squares)


def of_text(run: Path, text: Path, kind: str, device: str, row: int = 50) -> Iterator[Twins]:
    """A language model on a text, read as one row, and on a copy with noise; its words are then cut into rows, which
    begin anew where derivatives are taken."""
    from irl.data.text import WordVocabulary
    from irl.models.lstm_lm import FromEmbeddings
    from irl.noise.text import WordNoise
    from irl.random import Keys
    from irl.tasks.language import EVALUATED, load, read_through

    model, vocabulary, config = load(run / "checkpoint.pt", device)
    words = vocabulary.encode(text).to(device)
    counts = [1] * len(vocabulary)
    if kind == "unigram":
        counted = WordVocabulary.read(Path(config.vocabulary))
        if counted.words != vocabulary.words:
            raise UserError(f"{config.vocabulary}: has other words than {run} was trained with")
        counts = counted.counts
    try:
        noise = WordNoise(dataclasses.replace(config.noise, kind=kind), torch.tensor(counts))
    except ValueError as error:
        raise UserError(f"--noisy: {error}") from None
    noisy = noise.apply(words, noise.draw(Keys(torch.arange(len(words), device=device), 0, "noise/test", 0, 1)))
    differentiable, generator = FromEmbeddings(model), torch.Generator(device).manual_seed(0)
    with command.progress(None, "analyse", total=-(-(len(words) - 1) // EVALUATED), unit="chunk") as bar:
        for _, views in read_through(model, [words, noisy]):
            if views[0].logits.shape[1] >= 2 * row:
                clean, moved = (in_rows(view, row) for view in views)
                yield Twins(clean, moved, lambda_r(differentiable, clean.hidden["embedding"], generator=generator))
            bar.update()


def in_rows(view: Output, size: int) -> Output:
    """One row of T positions as T // size rows, what is left over left out."""
    count = view.logits.shape[1] // size
    cut = lambda x: x[0, : count * size].unflatten(0, (count, size))  # noqa: E731
    lens = torch.full((count,), size, device=view.logits.device)
    return Output(cut(view.logits), tree_map(cut, view.hidden), dict.fromkeys(view.lens, lens))
