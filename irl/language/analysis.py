"""A text beside its noisy copy, for the analysis of layers."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Iterator

import torch

from irl.core.errors import UserError
from irl.core.fingerprint import file_fingerprint
from irl.core.logging import progress
from irl.core.output import Output, tree_map
from irl.core.rng import Keys
from irl.data.text import WordVocabulary
from irl.language.perplexity import EVALUATED, load, read_through
from irl.models.lstm_lm import FromEmbeddings
from irl.noise.text import DRAWN, WordNoise
from irl.objective.smoothness import lambda_r
from irl.training.layer_stats import LayerPair


def pairs_fingerprint(args: argparse.Namespace) -> dict[str, Any]:
    return {"clean": file_fingerprint(args.clean), "noisy": str(args.noisy)}


def layer_pairs(run: Path, args: argparse.Namespace, row: int = 50) -> Iterator[LayerPair]:
    """A language model on a text, read as one row, and on a copy with noise; its words are then cut into rows, which
    begin anew where derivatives are taken."""
    kind, device = str(args.noisy), args.device
    model, vocabulary, config = load(run / "checkpoint.pt", device)
    words = vocabulary.encode(args.clean).to(device)
    try:
        noise_config = dataclasses.replace(config.noise, kind=kind)  # type: ignore[arg-type]  # checked there
    except ValueError as error:
        raise UserError(f"--noisy: {error}") from None
    counts, heard = [1] * len(vocabulary), words
    if kind in DRAWN:
        counted = WordVocabulary.read(Path(config.vocabulary))
        if counted.words != vocabulary.words:
            raise UserError(f"{config.vocabulary}: has other words than {run} was trained with")
        counts = counted.counts
    if kind == "kneser_ney":
        heard = vocabulary.encode(Path(config.train_text))
    noise = WordNoise.of_text(noise_config, heard, torch.tensor(counts))
    noisy = noise.apply(words, noise.draw(Keys(torch.arange(len(words), device=device), 0, "noise/test", 0, 1)))
    differentiable, generator = FromEmbeddings(model), torch.Generator(device).manual_seed(0)
    with progress(None, "analyse", total=-(-(len(words) - 1) // EVALUATED), unit="chunk") as bar:
        for _, views in read_through(model, [words, noisy]):
            if views[0].logits.shape[1] >= 2 * row:
                clean, moved = (in_rows(view, row) for view in views)
                yield LayerPair(clean, moved, lambda_r(differentiable, clean.hidden["embedding"], generator=generator))
            bar.update()


def in_rows(view: Output, size: int) -> Output:
    """One row of T positions as T // size rows, what is left over left out."""
    count = view.logits.shape[1] // size
    cut = lambda x: x[0, : count * size].unflatten(0, (count, size))  # noqa: E731
    lens = torch.full((count,), size, device=view.logits.device)
    return Output(cut(view.logits), tree_map(cut, view.hidden), dict.fromkeys(view.lens, lens))
