"""Perplexity of texts under a language model: irl perplexity CHECKPOINT --texts test=FILE ... [--out DIR]

A text is read as one row from its first word on; every word after it is predicted, <eos> at line ends among them, and
the perplexity is exp(total negative log likelihood / number of predicted words). Writes OUT/NAME.json, from which
results are made, with the sums of every line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import torch

from irl.core import atomic_io
from irl.core.errors import UserError, run_command
from irl.core.logging import log_to, logger
from irl.language.perplexity import by_line, load
from irl.training import checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl perplexity", description="Perplexity of texts.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--texts", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, help="directory for NAME.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    log_to(args.out / "perplexity.log" if args.out else None)
    texts = dict(item.partition("=")[::2] for item in args.texts)
    if not all(texts.values()):
        raise UserError(f"--texts: expected NAME=FILE, found {' '.join(args.texts)}")
    model, vocabulary, _ = load(args.checkpoint, args.device)
    for name, path in texts.items():
        nats, words = by_line(model, vocabulary, Path(path))
        total, count = float(nats.sum()), int(words.sum())
        shown = f"perplexity {math.exp(total / count):.2f} = exp({total:.1f} nats / {count} words)"
        logger.info(f"{args.checkpoint}: {name}: {shown}")
        if args.out:
            data = hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()
            mark = {"weights": checkpoint.file_fingerprint(args.checkpoint), "data": data, "options": {}}
            found = {"errors": nats.round(4).tolist(), "reference": words.tolist()}
            atomic_io.write(args.out / f"{name}.json", json.dumps({"mark": mark, **found}) + "\n")


if __name__ == "__main__":
    run_command(main)
