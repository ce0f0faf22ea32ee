"""A run that is stopped, killed or interrupted and goes on equals one that was not, to the bit."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from needs import needs
from tiny import ENV, metrics, run, same_weights

from irl.core.errors import UserError
from irl.training import checkpoint

needs("lightning_fabric")


def test_twice_and_with_two_workers_to_the_bit(recipe, reference):
    run("irl.bin.train", "irl_loss.yaml", "train.workers=2", "--exp", "exp/workers", cwd=recipe)
    assert same_weights(reference, checkpoint.load(recipe / "exp/workers/checkpoint.pt"))
    assert metrics(recipe / "exp/workers/metrics.jsonl") == metrics(recipe / "exp/reference/metrics.jsonl")


@pytest.mark.parametrize("stop", [3, 10])
def test_resumed_to_the_bit(recipe, reference, stop):
    exp = f"exp/stopped{stop}"
    run("irl.bin.train", "irl_loss.yaml", "--exp", exp, "--stop", stop, cwd=recipe)
    assert checkpoint.load(recipe / exp / "checkpoint.pt")["step"] == stop
    run("irl.bin.train", "irl_loss.yaml", "--exp", exp, cwd=recipe)
    assert same_weights(reference, checkpoint.load(recipe / exp / "checkpoint.pt"))


def test_killed_and_resumed_to_the_bit(recipe, reference):
    exp = recipe / "exp/killed"
    line = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", "--exp", str(exp)]
    process = subprocess.Popen(line, cwd=recipe, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (exp / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert checkpoint.load(exp / "checkpoint.pt")["step"] < 24
    # The kill may leave half a line of metrics behind the last checkpoint.
    with open(exp / "metrics.jsonl", "a") as file:
        file.write('{"step": 999, "tot')
    run("irl.bin.train", "irl_loss.yaml", "--exp", exp, cwd=recipe)
    assert same_weights(reference, checkpoint.load(exp / "checkpoint.pt"))
    assert metrics(exp / "metrics.jsonl") == metrics(recipe / "exp/reference/metrics.jsonl")


def test_an_interrupt_saves_the_step_it_was_in(recipe, reference):
    exp = recipe / "exp/interrupted"
    line = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", "train.save_every=100", "--exp", str(exp)]
    process = subprocess.Popen(line, cwd=recipe, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (exp / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130 and "the same command goes on where it stopped" in process.stderr.read()
    assert 0 < checkpoint.load(exp / "checkpoint.pt")["step"] < 24
    run("irl.bin.train", "irl_loss.yaml", "--exp", exp, cwd=recipe)
    assert same_weights(reference, checkpoint.load(exp / "checkpoint.pt"))


def test_a_teacher_begins_as_the_model_after_the_clean_phase_and_resumes_to_the_bit(recipe):
    teacher = ["irl_loss.yaml", "objective.ema=0.9", "objective.normalise=instance", "--exp"]
    run("irl.bin.train", *teacher, "exp/teacher", cwd=recipe)
    run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/before", "--stop", "clean", cwd=recipe)
    start = ["--start", "exp/before/checkpoint.pt"]
    run("irl.bin.train", *teacher, "exp/taught", *start, "--stop", 9, cwd=recipe)
    states = [checkpoint.load(recipe / "exp" / name / "checkpoint.pt")["model"] for name in ("before", "taught")]
    # The ninth update is the first with pairs. Its targets came from the model as it was before that update.
    for name, value in states[0].items():
        assert torch.equal(states[1][name.replace("model.", "teacher.model.", 1)], value), name
    run("irl.bin.train", *teacher, "exp/taught", *start, "--stop", 15, cwd=recipe)
    run("irl.bin.train", *teacher, "exp/taught", *start, cwd=recipe)
    whole, parts = (checkpoint.load(recipe / "exp" / name / "checkpoint.pt") for name in ("teacher", "taught"))
    assert same_weights(whole, parts)
    moved = [k for k, v in states[0].items() if not torch.equal(v, whole["model"]["teacher." + k])]
    assert moved and int(whole["model"]["teacher.followed"]) == 15


def test_shared_clean_phase_to_the_bit(recipe, reference):
    run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/clean", "--stop", "clean", cwd=recipe)
    run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/branch", "--start", "exp/clean/checkpoint.pt", cwd=recipe)
    assert same_weights(reference, checkpoint.load(recipe / "exp/branch/checkpoint.pt"))
    early = run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/early", "--stop", 3, cwd=recipe)
    assert early.returncode == 0
    wrong = run(
        "irl.bin.train",
        "irl_loss.yaml",
        "--exp",
        "exp/b2",
        "--start",
        "exp/early/checkpoint.pt",
        cwd=recipe,
        check=False,
    )
    assert wrong.returncode == 1 and "is at update 3, but the clean phase of this run ends at 8" in wrong.stderr


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"model": {}, "config": {"a": 1}})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device; the previous file stays"):
        checkpoint.save(path, {"model": {}, "config": {"a": 2}})
    assert checkpoint.load(path)["config"] == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
