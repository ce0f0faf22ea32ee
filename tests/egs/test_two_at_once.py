"""Two run.sh of one name, and run.sh that is told to end."""

import os
import random
import signal
import subprocess
import time

import pytest
import recipes
from recipes import ENV, results_of, run

from irl.core import lock

# A corpus that waits before anything is made, and says which processes would be left behind.
SLOW = 'locate() { sleep 300 & echo "$$ $!" >pids.tmp; mv pids.tmp pids; wait; }\n'


@pytest.fixture
def egs(tmp_path):
    return recipes.copy("ptb", tmp_path)


def refused(egs, *options):
    done = run("./run.sh", *options, cwd=egs, check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_the_second_run_of_a_name_is_refused_in_one_line(egs):
    with lock.held(egs / "exp/mini/lock", ""):
        (egs / "exp/mini/train.list").write_text("of the first\n")
        text = refused(egs)
        assert f"error: exp/mini: in use by process {os.getpid()} on " in text and "--name" in text
        # Other methods may run beside it, but the data stay as they are.
        assert "error: exp/mini: in use by process " in refused(egs, "--session", "b")
        assert (egs / "exp/mini/train.list").read_text() == "of the first\n"
    with lock.held(egs / "exp/mini/data.lock", ""):
        assert "error: exp/mini: in use by process " in refused(egs, "--session", "b", "--stage", "4")
    with lock.held(egs / "exp/mini/sessions/b/lock", ""):
        assert "error: exp/mini/sessions/b: in use by process " in refused(egs, "--stage", "0")
    assert "--session: expected letters and digits, found ../b" in refused(egs, "--session", "../b")


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_to_run_sh_alone_ends_what_it_has_begun(egs, name, status):
    (egs / "local/corpora/slow.sh").write_text(SLOW)
    process = subprocess.Popen(
        ["./run.sh", "--corpus", "slow", "--conf", "conf/mini"], cwd=egs, env=ENV, stderr=subprocess.PIPE, text=True
    )
    while not (egs / "pids").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, text = process.communicate(timeout=60)
    assert process.returncode == status
    assert text == "./run.sh: interrupted; the same command goes on where it stopped\n"
    assert not any(running(pid) for pid in (egs / "pids").read_text().split())


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(10))
def test_three_runs_at_once_are_not_mixed(egs, tmp_path, attempt):
    """Two of one name and one of another, each with its own method; the names have texts of different sizes."""
    rng = random.Random(attempt)
    few = "train.updates=4 train.batch_size=4 bptt=10 model.units=8 model.embedding_units=8"
    sizes, running = {"one": 150, "two": 200}, {}
    for name, size in sizes.items():
        (tmp_path / name).write_text("a b c <unk>\n" * size)
    runs = [("one", "baseline"), ("one", "irl_loss_blank"), ("two", "data_aug_blank")]
    for name, method in rng.sample(runs, 3):
        texts = [word for part in ("train", "valid", "test") for word in (f"--{part}-text", str(tmp_path / name))]
        options = ["--corpus", "text", "--name", name, *texts, "--methods", method, "--conf", "conf/mini"]
        line = ["./run.sh", *options, "--overrides", few, "--nj", "1", "--stop-stage", "6"]
        running[method] = subprocess.Popen(line, cwd=egs, env=ENV, stdout=-1, stderr=-1, text=True)
        time.sleep(rng.random() / 2)
    ended = {method: (*process.communicate(), process.returncode) for method, process in running.items()}
    assert ended["data_aug_blank"][2] == 0, ended
    # One of the two came second.
    (first,) = [method for name, method in runs[:2] if ended[method][2] == 0]
    out, error, status = next(ended[method] for name, method in runs[:2] if method != first)
    assert (out, status) == ("", 1) and "error: exp/one: in use by process " in error and error.count("\n") == 1
    for name, method in (("one", first), ("two", "data_aug_blank")):
        (line,) = results_of(egs / f"exp/{name}/results.jsonl")
        assert line["method"] == method and sum(line["conditions"]["test"]["reference"]) == 5 * sizes[name] - 1
        assert [path.name for path in egs.glob(f"exp/{name}/*.1")] == [f"{method}.1"]
