"""The loop with recorded passes. On a CPU a recording is a function that runs again and writes to the same tensors;
tools/bench/gpu.sh checks real ones on a GPU.
"""

import json

import pytest
import tiny
import torch

from irl.training import checkpoint, cuda_graphs
from irl.training.cuda_graphs import Recorder


@pytest.fixture
def played(monkeypatch):
    """Recordings that run on a CPU; how often each is played."""
    plays, record = [], Recorder._record

    def recording(self, batch):
        def capture(function):
            task, index = self.task, len(plays)
            before, random = task.hidden_state(), torch.get_rng_state()
            buffers = [(buffer, buffer.clone()) for buffer in task.module.buffers()]
            found = function()
            # A recording does nothing yet.
            torch.set_rng_state(random)
            for buffer, kept in buffers:
                buffer.copy_(kept)
            gradients, after = [p.grad for p in self.parameters], task.hidden_state()
            plays.append(0)

            def play():
                plays[index] += 1
                task.load_state(before)
                for parameter in self.parameters:
                    parameter.grad = None
                found[1].copy_(function()[1])
                for gradient, parameter in zip(gradients, self.parameters):
                    gradient.copy_(parameter.grad)
                for name, x in task.hidden_state().items():
                    after[name].copy_(x)

            return found, play

        monkeypatch.setattr(cuda_graphs, "capture", capture)
        return record(self, batch)

    monkeypatch.setattr(Recorder, "_record", recording)
    monkeypatch.setattr(cuda_graphs, "usable", lambda device: True)
    return plays


@pytest.mark.parametrize("task, kinds", [("vision", 1), ("language", 2)])
def test_played_passes_are_those_that_were_recorded(recipes_by_task, played, task, kinds):
    recipe = recipes_by_task(task)
    for name, more in (("plain", []), ("played", ["train.cuda_graphs=true"])):
        tiny.run("irl.bin.train", "irl_loss.yaml", *more, "--exp", f"exp/graphs-{name}", cwd=recipe)
    states = [checkpoint.load(recipe / f"exp/graphs-{name}/checkpoint.pt") for name in ("plain", "played")]
    assert tiny.same_weights(*states)
    found = [tiny.metrics(recipe / f"exp/graphs-{name}/metrics.jsonl") for name in ("plain", "played")]
    assert json.dumps(found[0]) == json.dumps(found[1])
    # Not while gamma rises, nor the first passes of a kind.
    assert len(played) >= kinds and all(played)


def test_where_passes_cannot_be_recorded(recipe, recipes_by_task, played):
    for folder, more, why in (
        (recipe, [], "images without attacks"),
        (recipes_by_task("vision"), ["attack.kind=fgsm"], "images without attacks"),
        (recipes_by_task("vision"), ["train.accumulate=2"], "accumulate 1"),
    ):
        done = tiny.run(
            "irl.bin.train",
            "irl_loss.yaml",
            "train.cuda_graphs=true",
            *more,
            "--exp",
            "exp/no",
            cwd=folder,
            check=False,
        )
        assert done.returncode and why in done.stderr
