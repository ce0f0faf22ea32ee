"""Perplexity of texts under a trained language model, one file OUT/NAME.json each with the sums of every line."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from irl.core.errors import UserError
from irl.core.fingerprint import file_fingerprint, read_product, write_product
from irl.core.logging import log_to, logger
from irl.core.machine import device_named
from irl.language import perplexity_of
from irl.language.perplexity import by_line, load
from irl.language.prepare import text_fingerprint


def evaluate(args: argparse.Namespace) -> None:
    """Read each NAME=TEXT of args.conditions with args.checkpoint."""
    log_to(args.out / "evaluate.log")
    texts = dict(item.partition("=")[::2] for item in args.conditions)
    if not all(texts.values()):
        raise UserError(f"--conditions: expected NAME=TEXT, found {' '.join(args.conditions)}")
    model, vocabulary, _ = load(args.checkpoint, device_named(args.device))
    weights = file_fingerprint(args.checkpoint)
    for name, text in texts.items():
        fingerprint = {"weights": weights, "options": {}, "data": text_fingerprint(Path(text))}
        path = args.out / f"{name}.json"
        if read_product(path, fingerprint, "errors", "reference") is not None:
            logger.info(f"{path}: already evaluated in this way")
            continue
        nats, words = by_line(model, vocabulary, Path(text))
        if not np.isfinite(nats).all():
            raise UserError(f"{args.checkpoint}: {name}: the model's outputs are not finite")
        write_product(path, fingerprint, errors=nats.round(4).tolist(), reference=words.tolist())
        total, count = float(nats.sum()), int(words.sum())
        shown = f"perplexity {perplexity_of(total / count):.2f} = exp({total:.1f} nats / {count} words)"
        logger.info(f"{args.checkpoint}: {name}: {shown}")
