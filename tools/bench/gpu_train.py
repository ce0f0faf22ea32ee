"""The short training of `gpu.py`: WRN-28-10 on CIFAR-10, the baseline and the IRL loss, in the time that is left.

Both have the same number of updates, as many as fit, of the schedule that rises and then falls to nothing. What comes
of it says that training works on the device, not what the methods are worth: for that see egs/cifar.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_part import Part, Row

METHODS: dict[str, dict[str, Any]] = {
    "baseline": {"alpha": 1.0, "beta": 0.0},
    "irl_loss": {
        "alpha": 0.5, "beta": 0.5, "gamma": 1.0, "distance": {"l2_mean": 0.3, "cosine": 3.0},
        "from_layer": "group3.block0",
    },
}  # fmt: skip
# Fewer updates than these say nothing of WRN-28-10: then the smaller one.
ENOUGH = 600
TRIED = 12


def training(part: Part) -> None:
    sets = find_sets(part)
    if sets is None:
        part.measure("CIFAR-10", lambda: {"skipped": f"no images in {part.cifar10}"})
        return
    end = time.monotonic() + part.left() - 8
    model = (10, 1) if part.tiny else (28, 10)
    spent = measure_updates(part, sets, model)
    updates = fitting(spent, end)
    if updates < ENOUGH and not part.tiny:
        model = (16, 4)
        spent = measure_updates(part, sets, model)
        updates = fitting(spent, end)
    updates = min(updates, 8) if part.tiny else updates
    for name in METHODS:
        part.measure(f"CIFAR-10, WRN-{model[0]}-{model[1]}, {name}", lambda: train(part, sets, model, name, updates))


def find_sets(part: Part) -> Path | None:
    """The folder with the sets as this package writes them, made of parquet files where there are only those."""
    source = part.cifar10
    if (source / "train.npz").exists():
        return source
    if not list(source.glob("train*.parquet")):
        return None
    script = Path(__file__).parent.parent.parent / "egs/cifar/local/make_sets.py"
    few = ["--train-images", "300", "--dev-images", "100"] if part.tiny else ["--dev-images", "1000"]
    subprocess.run([sys.executable, script, part.folder, "parquet", source, *few], check=True)
    return part.folder


def settings_of(part: Part, sets: Path, model: tuple[int, int], name: str, updates: int) -> Any:
    from irl.core import config
    from irl.vision import modality
    from irl.vision.config import VisionConfig

    statistics = sets / "statistics.json"
    values = {
        "train_set": str(sets / "train.npz"), "dev_set": str(sets / "dev.npz"),
        "statistics": str(statistics if statistics.exists() else part.folder / "statistics.json"),
        "model": {"depth": model[0], "width": model[1]},
        "noise": {"brightness": 0.5, "contrast": 0.5, "lighting": 0.1, "lighting_axes": "deviations"},
        "objective": METHODS[name],
        "train": {
            "updates": updates, "batch_size": 128, "optimizer": "nesterov", "learning_rate": 0.1,
            "warmup_updates": max(1, updates // 5), "weight_decay": 5e-4, "clip_norm": 0.0, "precision": "bf16-mixed",
            "cuda_graphs": True, "accelerator": "gpu" if part.cuda else "cpu", "save_every": 10**6, "log_every": 100,
        },
    }  # fmt: skip
    made = config.from_dict(VisionConfig, values, "benchmark")
    if not Path(made.statistics).exists():
        modality.prepare(made, [])
    return made


def measure_updates(part: Part, sets: Path, model: tuple[int, int]) -> dict[str, float]:
    """Seconds of an update of each method."""
    from irl.training.trainer import Trainer

    found = {}
    for name in METHODS:
        trainer = Trainer(settings_of(part, sets, model, name, 10**6), part.folder / "tried")
        trainer.module.train()
        for i in range(2 * TRIED if not part.tiny else 2):
            if i == (TRIED if not part.tiny else 1):
                part.synchronise()
                begin = time.monotonic()
            trainer.update(list(trainer.task.loader(0, [trainer.task.spec(i, "paired")], 0)))
        part.synchronise()
        found[name] = (time.monotonic() - begin) / (TRIED if not part.tiny else 1)
        del trainer
    return found


def fitting(spent: dict[str, float], end: float) -> int:
    """Updates of each method until then; evaluation, saving and starting take a tenth."""
    return max(1, int(0.85 * (end - time.monotonic() - 4) / sum(spent.values())))


def train(part: Part, sets: Path, model: tuple[int, int], name: str, updates: int) -> Row:
    from irl.training.trainer import Trainer

    trainer = Trainer(settings_of(part, sets, model, name, updates), part.folder / name)
    trainer.run(updates)
    found = {"test error": test_error(trainer, sets / "test.npz"), "updates": updates}
    found["epochs"] = updates / trainer.task.batches_in(0)
    seconds, waited = trainer.state.seconds, trainer.state.waited
    found["images/s"] = 128 * updates / seconds
    return {**found, "seconds of training": seconds, "waiting for data": waited / seconds}


@torch.no_grad()
def test_error(trainer: Any, path: Path) -> float:
    from irl.training.task import BatchSpec
    from irl.vision.data import VisionData

    data = VisionData(str(path), trainer.config, trainer.task.statistics, "dev")
    data.to(trainer.fabric.device)
    model, wrong = trainer.raw_module.model.eval(), 0
    for rows in torch.arange(len(data.labels)).split(500):
        batch = data.views(rows, 0, BatchSpec(0, True, 0), len(rows))
        wrong += int((model(batch.clean).logits.argmax(1) != batch.y).sum())
    return wrong / len(data.labels)
