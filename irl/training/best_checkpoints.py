"""The weights of a run's best evaluations, and their mean (as ESPnet's n-best average of checkpoints)."""

from __future__ import annotations

from pathlib import Path

import torch

from irl.training import checkpoint

Weights = dict[str, torch.Tensor]


class BestCheckpoints:
    """The `count` evaluations of lowest loss, FOLDER/STEP.pt each; `losses` by step belongs into the checkpoint.

    A file is removed only by `prune`, after a checkpoint was written, where neither that one nor the one before names
    it, so that a run that is killed finds what either of them names. writes: of several processes one does.
    """

    def __init__(self, folder: Path, count: int, writes: bool = True) -> None:
        self.folder, self.count, self.writes = folder, count, writes
        self.losses: dict[int, float] = {}
        self.before: set[int] = set()  # named by the checkpoint before

    def offer(self, step: int, loss: float, weights: Weights) -> None:
        """Keep these weights if they are among the best; of equal ones the later."""
        kept = sorted([*self.losses.items(), (step, loss)], key=lambda item: (item[1], -item[0]))[: self.count]
        if step in dict(kept) and self.writes:
            checkpoint.save(self.folder / f"{step}.pt", {"model": weights, "config": {}})
        self.losses = dict(sorted(kept))

    def prune(self) -> None:
        """After a checkpoint was written that holds `losses`."""
        named = {str(step) for step in self.before | self.losses.keys()}
        for path in self.folder.glob("*.pt"):
            if path.stem not in named:
                path.unlink()
        self.before = set(self.losses)

    def resume(self, losses: dict[int, float]) -> None:
        self.losses, self.before = losses, set(losses)

    def weights(self, step: int) -> Weights:
        found: Weights = checkpoint.load(self.folder / f"{step}.pt")["model"]
        return found

    def mean(self) -> Weights:
        """In float64 and back; whole numbers, such as counters, are those of the last."""
        states = [self.weights(step) for step in self.losses]
        mean = dict(states[-1])
        for name, last in mean.items():
            if last.is_floating_point():
                mean[name] = torch.stack([state[name].double() for state in states]).mean(0).to(last.dtype)
        return mean
