"""A language of which the entropy is known, and its recipe, for the tests of the language task."""

import numpy as np
from tiny import run

from irl.core.config import load
from irl.language.config import LanguageConfig

WORDS = ["a", "b", "c", "d"]
# Each word is followed by one of two, with these probabilities; every line is so long that <eos> hardly counts.
NEXT = {"a": ("b", "c"), "b": ("c", "d"), "c": ("d", "a"), "d": ("a", "b")}
P = 0.8
ENTROPY = -(P * np.log(P) + (1 - P) * np.log(1 - P))

CONFIG = """
task: language
train_text: data/train.txt
dev_text: data/valid.txt
vocabulary: data/words.txt
bptt: 10
model: {layers: 2, units: 12, embedding_units: 8, dropout: 0.1, init: 0.1}
noise: {kind: blank, p: 0.2}
objective: {alpha: 0.5, beta: 0.5, gamma: 0.0}
train: {updates: 40, clean_updates: 7, batch_size: 8, optimizer: sgd, learning_rate: 1.0, decay: plateau,
        decay_factor: 0.5, average: 1, eval_every: -1, warmup_updates: 0, clip_norm: 5, threads: 1, save_every: 9,
        log_every: 4}
"""
LOSS = "objective: {alpha: 0.5, beta: 0.5, gamma: 1.0, warmup: 3}\n"
METHODS = {
    "irl_loss": LOSS,
    "unigram": LOSS + "noise: {kind: unigram, p: 0.2}\nshare_dropout: true\n",
    "teacher": LOSS.replace("}", ", ema: 0.9, normalise: instance}"),
    "baseline": "objective: {alpha: 1.0, beta: 0.0, gamma: 0.0}\n",
    "data_aug": "objective: {alpha: 0.0, beta: 1.0, gamma: 0.0}\n",
}


def chain(count, seed):
    rng = np.random.default_rng(seed)
    words = ["a"]
    while len(words) < count:
        words.append(NEXT[words[-1]][int(rng.random() >= P)])
    return words


def build_recipe(folder, sizes=(1300, 300, 300)):
    (folder / "data").mkdir()
    for seed, (name, size) in enumerate(zip(("train", "valid", "test"), sizes)):
        (folder / "data" / f"{name}.txt").write_text(" ".join(chain(size, seed)) + "\n")
    (folder / "irl_batching.yaml").write_text(CONFIG)
    for name, text in METHODS.items():
        (folder / f"{name}.yaml").write_text("base: irl_batching.yaml\n" + text)
    run("irl.bin.prepare", "irl_batching.yaml", "--check", "data/test.txt", cwd=folder)
    return folder


def settings(name, *overrides):
    """A configuration of the recipe that one stands in."""
    return load(LanguageConfig, f"{name}.yaml", overrides)
