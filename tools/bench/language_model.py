"""A training step of the LSTM language model: objectives beside each other, and beside a plain loop over nn.LSTM.

"baseline" and the others are whole updates of `irl train`: a batch, noise, one forward pass over all views, loss,
backward pass, clipping, SGD. "plain loop" is the loop of PyTorch's tutorials over nn.Embedding, nn.LSTM and nn.Linear
of the same sizes and dropout, with carried states; nn.LSTM is the kernel of cuDNN on a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from harness import Report, alternate, arguments, median_interval, parse
from torch import Tensor, nn
from torch.nn import functional as F

from irl.core import config
from irl.data.text import EOS, WordVocabulary
from irl.language.config import LanguageConfig
from irl.training.trainer import Trainer

PRESETS: dict[str, dict[str, Any]] = {
    "baseline": {"alpha": 1.0, "beta": 0.0},
    "irl_batching": {"alpha": 0.5, "beta": 0.5},
    "irl_loss": {"alpha": 0.5, "beta": 0.5, "gamma": 1.0, "distance": {"l2_mean": 0.1, "cosine": 0.1}},
}


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """A text of words drawn evenly; what they are does not matter to the time of a step."""
    words = [EOS, *(f"w{i}" for i in range(1, args.words))]
    WordVocabulary(words, [1] * len(words)).write(folder / "words.txt")
    drawn = np.random.default_rng(0).integers(1, args.words, 40 * args.batch_size * args.bptt)
    for name in ("train", "dev"):
        (folder / name).write_text(" ".join(words[i] for i in drawn) + "\n")


def settings_of(args: argparse.Namespace, name: str, folder: Path) -> LanguageConfig:
    made: LanguageConfig = config.from_dict(
        LanguageConfig,
        {
            "train_text": str(folder / "train"), "dev_text": str(folder / "dev"),
            "vocabulary": str(folder / "words.txt"), "bptt": args.bptt,
            "model": {"units": args.units, "embedding_units": args.units, "dropout": 0.5, "init": 0.05},
            "noise": {"kind": "blank", "p": 0.2},
            "objective": PRESETS[name],
            "train": {
                "batch_size": args.batch_size, "optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 5.0,
                "updates": 10**6, "warmup_updates": 0, "decay": "none", "precision": args.precision,
                "accelerator": "gpu" if args.device == "cuda" else "cpu", "threads": args.threads,
                "cuda_graphs": getattr(args, "cuda_graphs", False),
            },
        },
        "benchmark",
    )  # fmt: skip
    return made


def make_step(args: argparse.Namespace, name: str, folder: Path) -> Callable[[], None]:
    """One update after another, batches included."""
    trainer = Trainer(settings_of(args, name, folder), folder / "exp")
    trainer.module.train()

    def step() -> None:
        index = trainer.state.step % trainer.task.batches_in(0)
        trainer.update(list(trainer.task.loader(0, [trainer.task.spec(index, "paired")], 0)))
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


class Plain(nn.Module):
    def __init__(self, words: int, units: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.encoder = nn.Embedding(words, units)
        self.rnn = nn.LSTM(units, units, 2, dropout=0.5)
        self.decoder = nn.Linear(units, words)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.rnn(self.drop(self.encoder(x)), state)
        return self.decoder(self.drop(y)), state


def plain_step(args: argparse.Namespace) -> Callable[[], None]:
    model = Plain(args.words, args.units).to(args.device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randint(args.words, (args.bptt, args.batch_size), device=args.device)
    y = torch.randint(args.words, (args.bptt * args.batch_size,), device=args.device)
    zeros = torch.zeros(2, args.batch_size, args.units, device=args.device)
    state = (zeros, zeros)

    def step() -> None:
        nonlocal state
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16-mixed"):
            logits, (h, c) = model(x, state)
            loss = F.cross_entropy(logits.flatten(0, 1), y)
        state = (h.detach(), c.detach())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--units", type=int, default=200, help="of two layers and of the embedding")
    parser.add_argument("--words", type=int, default=10000, help="of the vocabulary")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--bptt", type=int, default=35)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="32-true")
    args = parse(parser)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    report = Report(f"Training step of the 2x{args.units} LSTM language model, {where}, {args.precision}", args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args)
        steps = {row: make_step(args, row, folder) for row in PRESETS}
        steps["plain loop"] = plain_step(args)
        report.say(
            f"{args.words} words, batches of {args.batch_size} rows of {args.bptt}; one noisy copy; the distance on "
            "the embedding and both layers."
        )
        seconds = alternate(steps, args.rounds, label="steps")
    report.table(seconds, "baseline", args.batch_size * args.bptt, "words/s")
    for over in ("baseline", "irl_batching"):
        report.say(f"Time of IRL loss / time of {over}: {median_interval(seconds['irl_loss'] / seconds[over])}.")
    speed = median_interval(seconds["plain loop"] / seconds["baseline"])
    report.say(f"Words/s of a whole update of the baseline / words/s of the plain loop: {speed}.")
    report.close()


if __name__ == "__main__":
    main()
