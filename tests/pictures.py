"""A set of small pictures that a network learns in seconds, and its recipe, for the tests of the vision task."""

import numpy as np
from tiny import run

from irl.data.images import Images, write

CONFIG = """
task: vision
train_set: data/train.npz
dev_set: data/dev.npz
statistics: data/statistics.json
crops: 1
model: {depth: 10, width: 1, dropout: 0.1}
noise: {brightness: 0.5, contrast: 0.5, lighting: 0.1}
objective: {alpha: 0.5, beta: 0.5, gamma: 0.0}
train: {updates: 12, clean_updates: 4, batch_size: 8, optimizer: nesterov, learning_rate: 0.05, warmup_updates: 2,
        clip_norm: 0, threads: 1, save_every: 5, log_every: 3}
"""
LOSS = "objective: {alpha: 0.5, beta: 0.5, gamma: 1.0, warmup: 3, from_layer: group3.block0}\n"
METHODS = {
    "irl_loss": LOSS,
    "adversarial": "attack: {kind: fgsm, eps: 0.1}\n",
    "pgd_loss": LOSS + "attack: {kind: pgd, eps: 0.1, steps: 2}\n",
    "teacher": LOSS.replace("}", ", ema: 0.9, variance: 0.1, covariance: 0.1}"),
    "semi": LOSS + "labels: 16\nunlabelled: 6\n",
}


COLORS = ((220, 60, 60), (60, 220, 60), (60, 60, 220), (220, 220, 220))


def pictures(count, seed, size=8):
    """A patch of the class's colour on noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 120, (count, size, size, 3), dtype=np.uint8)
    labels = np.arange(count) % 4
    for image, label in zip(images, labels):
        image[2:6, 2:6] = COLORS[label]
    return Images(images, labels, np.arange(count) + 1000 * seed, ["a", "b", "c", "d"])


def build_recipe(folder):
    """A recipe directory with sets, configurations and stage 3 done."""
    for seed, (name, count) in enumerate((("train", 44), ("dev", 12), ("test", 20))):
        write(folder / "data" / f"{name}.npz", pictures(count, seed))
    (folder / "irl_batching.yaml").write_text(CONFIG)
    for name, text in METHODS.items():
        (folder / f"{name}.yaml").write_text("base: irl_batching.yaml\n" + text)
    (folder / "evaluation.yaml").write_text("slow_images: 10\n")
    run("irl.bin.prepare", "irl_batching.yaml", "--check", "data/test.npz", cwd=folder)
    return folder
