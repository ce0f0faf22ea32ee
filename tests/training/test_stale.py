"""Weights, vocabularies and counts of other data than there are now are known, and never used without a word."""

import json
import re

import pytest
import words
from needs import needs
from tiny import run

from irl.core import lock
from irl.reporting import results
from irl.training import checkpoint

needs("lightning_fabric")
FEW = ["train.updates=10", "train.clean_updates=0"]
EXP = "exp/irl_batching.1"


@pytest.fixture
def folder(tmp_path):
    """A recipe of texts, as `irl plan` wants it."""
    words.build_recipe(tmp_path, (400, 100, 100))
    (tmp_path / "conf").mkdir()
    (tmp_path / "irl_batching.yaml").rename(tmp_path / "conf/irl_batching.yaml")
    return tmp_path


def train(folder, *options, check=True):
    return run("irl.bin.train", "conf/irl_batching.yaml", *FEW, "--exp", EXP, *options, cwd=folder, check=check)


def prepare(folder, *overrides):
    run("irl.bin.prepare", "conf/irl_batching.yaml", *overrides, cwd=folder)


def plan(folder, *options):
    """The number of runs without a result."""
    arguments = ["conf", *FEW, "--results", "r.jsonl", "--corpus", "c", "--methods", "irl_batching", "--seeds", "1"]
    done = run("irl.bin.plan", *arguments, "--conditions", "test=data/test.txt", "--out", "exp", *options, cwd=folder)
    return int(re.search(r"without a result in r.jsonl: (\d)", done.stdout)[1]) if done.stdout else None


def evaluate(folder, check=True):
    line = [f"{EXP}/checkpoint.pt", "--conditions", "test=data/test.txt", "--wanted", "exp/wanted.jsonl"]
    return run("irl.bin.evaluate", *line, cwd=folder, check=check)


def score(folder, check=True):
    line = [EXP, "--corpus", "c", "--method", "irl_batching", "--results", "r.jsonl"]
    return run("irl.bin.score", *line, "--conditions", "test=data/test.txt", cwd=folder, check=check)


def test_a_changed_test_text_is_evaluated_again_and_not_trained_for(folder):
    assert plan(folder, "--draft") is None and plan(folder) == 1
    train(folder)
    evaluate(folder)
    score(folder)
    assert plan(folder) == 0
    (folder / "data/test.txt").write_text("a b c\nd a b\n")
    assert plan(folder) == 1
    stale = score(folder, check=False)
    assert (
        stale.returncode == 1
        and "test.json: was evaluated on other data than there are now; run stage 5" in stale.stderr
    )
    assert f"{EXP}: already at update 10" in train(folder, "--anew").stderr
    evaluate(folder)
    score(folder)
    assert plan(folder) == 0
    (line,) = results.read(folder / "r.jsonl")
    assert len(line["conditions"]["test"]["errors"]) == 2
    # A line of an earlier version, which does not tell its data, stays the result.
    for key in ("train_data", "dev_data"):
        del line[key]
    del line["conditions"]["test"]["data"]
    (folder / "r.jsonl").write_text(json.dumps(line) + "\n")
    assert plan(folder) == 0


def test_a_changed_training_text_is_trained_on_anew(folder):
    train(folder)
    plan(folder)
    evaluate(folder)
    score(folder)
    (folder / "data/train.txt").write_text(" ".join(words.chain(500, 9)) + "\n")
    assert plan(folder) == 1
    stale = train(folder, "--anew", check=False)
    assert stale.returncode == 1
    assert "words.txt: was made from another train_text than there is now; run stage 3 again" in stale.stderr
    prepare(folder)
    before = evaluate(folder, check=False)
    assert before.returncode == 1
    assert "checkpoint.pt: was trained with other train_data than there is now; run stage 4 again" in before.stderr
    refused = train(folder, check=False)
    assert (
        refused.returncode == 1 and "other train_data than there is now; use another --exp, or --anew" in refused.stderr
    )
    old = (folder / EXP / "checkpoint.pt").read_bytes()
    assert f"that run is now in {EXP}/old.1, and training begins anew" in train(folder, "--anew").stderr
    assert (folder / EXP / "old.1/checkpoint.pt").read_bytes() == old, "nothing is lost"
    assert "already at update 10" in train(folder, "--anew").stderr
    evaluate(folder)
    score(folder)
    assert plan(folder) == 0
    shown = run("irl.bin.status", "exp", cwd=folder).stdout
    assert "old.1" not in shown and EXP in shown


def test_a_changed_min_count_or_dev_text_is_not_overlooked(folder):
    stale = train(folder, "min_count=5", check=False)
    assert (
        stale.returncode == 1 and "words.txt: was made with min_count 1, now it is 5; run stage 3 again" in stale.stderr
    )
    train(folder)
    # The dev text has chosen the weights.
    (folder / "data/valid.txt").write_text(" ".join(words.chain(90, 8)) + "\n")
    assert "was trained with other dev_data" in train(folder, check=False).stderr
    # Another configuration under the same name.
    assert "was trained with seed 1, this run has 2" in train(folder, "seed=2", check=False).stderr
    train(folder, "seed=2", "--anew")
    state = checkpoint.load(folder / EXP / "checkpoint.pt")
    assert state["config"]["seed"] == 2 and state["dev_data"] and (folder / EXP / "old.1/metrics.jsonl").exists()
    plan(folder)
    other = evaluate(folder, check=False)
    assert other.returncode == 1 and "another configuration than is asked for now; run stage 4" in other.stderr


def test_two_trainings_in_one_directory_are_refused(folder):
    with lock.held(folder / EXP / "lock", ""):
        second = train(folder, check=False)
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert f"error: {EXP}: in use by process " in second.stderr and "wait for it" in second.stderr
    assert not (folder / EXP / "metrics.jsonl").exists()
    train(folder)
    assert (folder / EXP / "lock").read_text() == ""
