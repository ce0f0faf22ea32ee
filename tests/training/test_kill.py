"""Trainings that are killed at random moments, also while they save, end as if nothing had happened."""

import functools
import json
import os
import random
import signal
import time

import pytest
from needs import needs
from ranks import begin, ends
from tiny import metrics, run, same_weights

from irl.core.errors import UserError
from irl.training import checkpoint

needs("lightning_fabric")
RECIPES = ("speech", "vision", "language")
# A checkpoint after every update, so that many kills hit one that is being written; the best weights are kept too.
OFTEN = ["train.save_every=1", "train.log_every=1", "train.eval_every=4", "train.average=2"]
FAST, ALL = 1, 10


@pytest.fixture(scope="module")
def folders(recipes_by_task):
    """For each recipe its folder, with the run that nobody disturbs, `exp/whole`."""

    @functools.cache
    def folder(name):
        run("irl.bin.train", "irl_loss.yaml", *OFTEN, "--exp", "exp/whole", cwd=recipes_by_task(name))
        return recipes_by_task(name)

    return folder


def start(folder, exp, *overrides):
    """A training in a process of its own, and where it says how it has ended."""
    line = ("irl_loss.yaml", *OFTEN, *overrides, "--exp", exp)
    (process,), queue = begin(1, "irl.bin.train", *line, cwd=folder)
    return process, queue


def wait_for(path, process):
    while not path.exists() and process.is_alive():
        time.sleep(0.002)


CASES = [
    pytest.param(recipe, seed, marks=[] if seed < FAST else pytest.mark.slow)
    for recipe in RECIPES
    for seed in range(ALL)
]


@pytest.mark.parametrize(("recipe", "seed"), CASES)
def test_killed_at_a_random_moment(folders, recipe, seed):
    folder, exp = folders(recipe), f"exp/killed{seed}"
    last = json.loads((folder / "exp/whole/metrics.jsonl").read_text().splitlines()[-1])
    moment = random.Random(f"{recipe} {seed}").uniform(0, last["seconds"])
    process, _ = start(folder, exp)
    # The first update has been logged, and perhaps not saved; from then on any moment of the run.
    wait_for(folder / exp / "metrics.jsonl", process)
    time.sleep(moment)
    process.kill()
    process.join()
    path = folder / exp / "checkpoint.pt"
    found = checkpoint.load_last(path) if path.exists() or checkpoint.previous(path).exists() else None
    print(f"{recipe} {seed}: killed after {moment:.2f} s, at update {found['step'] if found else 0}")
    run("irl.bin.train", "irl_loss.yaml", *OFTEN, "--exp", exp, cwd=folder)
    whole, resumed = (checkpoint.load(folder / name / "checkpoint.pt") for name in ("exp/whole", exp))
    assert same_weights(whole, resumed) and whole["best"] == resumed["best"]
    assert all((whole["averaged"][name] == resumed["averaged"][name]).all() for name in whole["averaged"])
    assert metrics(folder / "exp/whole/metrics.jsonl") == metrics(folder / exp / "metrics.jsonl")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_asks_to_be_queued_again(folders, name):
    folder, exp = folders("vision"), f"exp/{name}"
    process, queue = start(folder, exp, "train.save_every=1000")
    wait_for(folder / exp / "metrics.jsonl", process)
    os.kill(process.pid, getattr(signal, name))
    ((_, done),) = ends([process], queue, seconds=60)
    step = checkpoint.load(folder / exp / "checkpoint.pt")["step"]
    assert done.returncode == 75 and 0 < step < 12
    assert f"{name} at update {step}, saved; the same command goes on where it stopped" in done.stderr
    run("irl.bin.train", "irl_loss.yaml", *OFTEN, "--exp", exp, cwd=folder)
    assert same_weights(*(checkpoint.load(folder / e / "checkpoint.pt") for e in ("exp/whole", exp)))


@pytest.mark.parametrize("damage", ["cut", "a flipped bit", "empty", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(folders, damage):
    folder, exp = folders("language"), f"exp/{damage.replace(' ', '_')}"
    run("irl.bin.train", "irl_loss.yaml", *OFTEN, "--exp", exp, "--stop", 21, cwd=folder)
    path = folder / exp / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    if damage == "a flipped bit":
        # In the middle of the largest record, the output layer's weights or those of the recurrent ones.
        content[len(content) // 2] ^= 4
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b""}.get(damage, content))
    if damage == "gone":
        path.unlink()
    done = run("irl.bin.train", "irl_loss.yaml", *OFTEN, "--exp", exp, cwd=folder)
    assert "warning: " in done.stderr and f"going on from {exp}/checkpoint.previous.pt, at update 20" in done.stderr
    assert same_weights(*(checkpoint.load(folder / e / "checkpoint.pt") for e in ("exp/whole", exp)))


def test_a_kill_after_a_fallback_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    for i in range(2):
        checkpoint.save(path, {"model": {}, "config": {"i": i}})
    path.write_bytes(b"x")
    assert checkpoint.load_last(path)["config"] == {"i": 0}
    moved, replace = [], os.replace

    def killed(a, b):
        moved.append(b)
        if len(moved) == 2:
            raise KeyboardInterrupt  # between the two renames
        replace(a, b)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"model": {}, "config": {"i": 2}})
    monkeypatch.setattr(os, "replace", replace)
    assert checkpoint.load_last(path)["config"] == {"i": 0}


def test_two_damaged_checkpoints_are_an_error(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load_last(path) is None
    for i in range(3):
        checkpoint.save(path, {"model": {}, "config": {"i": i}})
    assert checkpoint.load(checkpoint.previous(path))["config"] == {"i": 1}
    for each in (path, checkpoint.previous(path)):
        each.write_bytes(b"x")
    with pytest.raises(UserError, match="checkpoint.previous.pt: truncated or damaged"):
        checkpoint.load_last(path)


def test_a_folder_that_cannot_be_written_is_one_line(folders):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder = folders("vision")
    (folder / "exp/closed").mkdir(mode=0o500)
    done = run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/closed", cwd=folder, check=False)
    assert done.returncode == 1 and "exp/closed" in done.stderr and done.stderr.count("\n") == 1
