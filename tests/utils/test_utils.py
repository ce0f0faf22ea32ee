"""The job helpers, run as the recipes run them."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irl.core import provenance
from irl.core.provenance import commit

ROOT = Path(__file__).parents[2]
RUN, LINE = ROOT / "utils" / "run.py", ROOT / "utils" / "line.py"


def run(*args, cwd):
    return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True)


def test_jobs_run_with_their_numbers_and_logs(tmp_path):
    done = run(RUN, "--max-jobs-run", 2, "JOB=1:3", "log/x.JOB.log", "echo", "job JOB; rm -rf $HOME `id`", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for n in (1, 2, 3):
        lines = (tmp_path / f"log/x.{n}.log").read_text().splitlines()
        # Nothing passes through a shell.
        assert f"job {n}; rm -rf $HOME `id`" in lines
        assert lines[0].startswith("# ") and "echo" in lines[1] and lines[-1].endswith("ended with status 0")


def test_a_failure_is_shown_and_starts_nothing_more(tmp_path):
    code = "import sys; n = int(sys.argv[1]); print('bad', n) if n == 2 else open(f'ran{n}', 'w'); sys.exit(n == 2)"
    done = run(RUN, "--max-jobs-run", 1, "JOB=1:4", "x.JOB.log", sys.executable, "-c", code, "JOB", cwd=tmp_path)
    assert done.returncode == 1 and "the end of x.2.log" in done.stderr and "bad 2" in done.stderr
    assert (tmp_path / "ran1").exists() and not (tmp_path / "ran3").exists()


@pytest.mark.parametrize(
    "named, expected", [("4,7", {"4", "7"}), ("4", {"4"}), ("", {""}), ("GPU-a,GPU-b", {"GPU-a", "GPU-b"})]
)
def test_jobs_at_once_have_gpus_of_their_own(tmp_path, monkeypatch, named, expected):
    """Each job waits for what the other one has seen."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    code = (
        "import os, sys, time; mine, other = f'sees{sys.argv[1]}', f'sees{3 - int(sys.argv[1])}'\n"
        "open(mine, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "while not os.path.exists(other): time.sleep(0.01)"
    )
    done = run(RUN, "--max-jobs-run", 2, "JOB=1:2", "x.JOB.log", sys.executable, "-c", code, "JOB", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {(tmp_path / f"sees{n}").read_text() for n in (1, 2)} == expected


def test_a_gpu_that_a_job_has_left_is_given_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    code = "import os, sys; open(f'sees{sys.argv[1]}', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    done = run(RUN, "--max-jobs-run", 1, "JOB=1:3", "x.JOB.log", sys.executable, "-c", code, "JOB", cwd=tmp_path)
    assert done.returncode == 0 and {(tmp_path / f"sees{n}").read_text() for n in (1, 2, 3)} == {"4"}


def test_a_job_of_several_processes(tmp_path):
    code = "import os, sys; print(sys.argv[1], 'rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])"
    done = run(RUN, "--ranks", 2, "JOB=1:1", "x.JOB.log", sys.executable, "-c", code, "job JOB", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "x.1.log").read_text().splitlines()
    assert {"job 1 rank 0 of 2", "job 1 rank 1 of 2"} <= set(lines)
    # 75 where all ask for it, and an error where one has one.
    code = "import os, sys; sys.exit(int(sys.argv[1 + int(os.environ['RANK'])]))"
    for statuses, expected in ((("75", "75"), 75), (("75", "3"), 3), (("0", "0"), 0)):
        run(RUN, "--ranks", 2, "y.log", sys.executable, "-c", code, *statuses, cwd=tmp_path)
        assert (tmp_path / "y.log").read_text().endswith(f"ended with status {expected}\n")
    done = run(RUN, "--ranks", 0, "x.log", "true", cwd=tmp_path)
    assert done.returncode == 1 and "cannot use --ranks" in done.stderr


@pytest.mark.parametrize(("restarts", "again"), [("0", True), ("10", False)])
def test_a_task_that_dies_of_the_warning_is_queued_again(tmp_path, restarts, again):
    """Slurm's signal may come while a training still imports what it needs."""
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho asked: $*\n")
    (tmp_path / "scontrol").chmod(0o755)
    code = "import time; open('pid', 'w').close(); time.sleep(60)"
    job = {"directory": str(tmp_path), "log": "x.log", "command": [sys.executable, "-c", code], "numbered": False}
    (tmp_path / "job.json").write_text(json.dumps(job))
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
    task = subprocess.Popen(
        [sys.executable, ROOT / "utils/task.py", "job.json"], cwd=tmp_path, env={**os.environ, **known}
    )
    while not (tmp_path / "pid").exists():
        time.sleep(0.01)
    task.send_signal(signal.SIGUSR1)
    until = time.monotonic() + 120
    wanted = "asked: requeue 7" if again else "ended with status -10"
    while wanted not in (tmp_path / "x.log").read_text() and time.monotonic() < until:
        time.sleep(0.01)
    task.kill()
    task.wait()
    log = (tmp_path / "x.log").read_text()
    assert wanted in log and ("requeue" in log) == again


def test_jobs_at_once_are_bounded(tmp_path):
    code = """
import os, sys, time
open(f"on{sys.argv[1]}", "w")
time.sleep(0.3)
open("seen", "a").write(f"{sum(f.startswith('on') for f in os.listdir())}\\n")
os.remove(f"on{sys.argv[1]}")
"""
    done = run(RUN, "--max-jobs-run", 2, "JOB=1:5", "x.JOB.log", sys.executable, "-c", code, "JOB", cwd=tmp_path)
    assert done.returncode == 0
    assert max(map(int, (tmp_path / "seen").read_text().split())) == 2


def test_interrupt_ends_the_jobs(tmp_path):
    code = "import time, os; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    # In a shell's background SIGINT is ignored, and children inherit that.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, RUN, "x.log", sys.executable, "-c", code], cwd=tmp_path, preexec_fn=listen
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--fast", "x.log", "true"], "cannot use --fast"),
        (["x.log"], "expected LOG COMMAND"),
        (["JOB=1:2", "x.log", "true"], "must have JOB in its name"),
        (["x.log", "no-such-command"], "no-such-command: No such file"),
        (["/dev/full", "true"], "/dev/full: cannot be written: No space left on device"),
    ],
)
def test_dispatcher_refusals(tmp_path, args, message):
    done = run(RUN, *args, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_lines_of_a_list(tmp_path):
    (tmp_path / "list").write_text("echo irl_loss.yaml\necho 'two words' \"$HOME\" ; false\n")
    assert run(LINE, "list", 1, cwd=tmp_path).stdout == "irl_loss.yaml\n"
    # No shell takes part.
    assert run(LINE, "list", 2, cwd=tmp_path).stdout == "two words $HOME ; false\n"
    assert run(LINE, "list", 3, cwd=tmp_path).stderr.strip() == "line.py: list has 2 lines, asked for line 3"


def test_recipe_options():
    script = ROOT / "egs" / "wsj" / "run.sh"
    for args, message in (
        (["--nothing", "1"], "unknown option --nothing"),
        (["--seeds"], "--seeds needs a value"),
        (["--corpus", "timit"], "unknown corpus timit, known are fsdd kaldi librispeech mini speechocean wsj"),
        (["--stage", "x"], "expected numbers, found x"),
        (["--seeds", ""], '--seeds: expected whole numbers, found ""'),
        (["--seeds", "1 b"], '--seeds: expected whole numbers, found "1 b"'),
        (["--methods", " "], "--methods: expected names of methods, found none"),
        (["--train-parts", "train-clean-100"], "--corpus mini has no use for --train-parts"),
        (["--lm-weight", "0.5"], "--lm-weight and --lm-overrides need --lm true"),
        (["--methods", "irl_loss", "irl_batching"], "cannot use irl_batching; values of several words need quotes"),
        (["--corpus", "kaldi", "--train-dir", "a", "--dev-dir", "b", "--test-dirs", "x/t y/t"], "have the same name"),
        (["--corpus", "kaldi"], "needs --train-dir, --dev-dir and --test-dirs"),
    ):
        done = subprocess.run([script, *args], capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    for name in ("wsj", "cifar", "ptb"):
        script = ROOT / "egs" / name / "run.sh"
        shown = subprocess.run([script, "--help"], capture_output=True, text=True).stdout
        assert "--methods" in shown and "  --corpus 'mini'\n" in shown and "  --nj '2'\n" in shown
    bad = subprocess.run([script, "--conditions", "valid tset"], capture_output=True, text=True)
    assert bad.returncode == 1 and "--conditions: unknown text tset, known are train valid test" in bad.stderr


def test_commit_is_not_dirty_by_results(tmp_path, monkeypatch):
    """Results that a run appends to must not mark the next run's code as changed."""

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    (tmp_path / "irl").mkdir()
    (tmp_path / "irl" / "command.py").write_text("")
    results = tmp_path / "egs" / "wsj" / "results" / "mini.jsonl"
    results.parent.mkdir(parents=True)
    results.write_text("")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "irl" / "core" / "provenance.py"))
    known = git("rev-parse", "--short", "HEAD").stdout.strip()
    results.write_text("{}\n")
    assert commit() == known
    (tmp_path / "irl" / "command.py").write_text("1\n")
    assert commit() == f"{known}-dirty"
    monkeypatch.setattr(provenance, "__file__", "/nowhere/irl/core/provenance.py")
    assert commit() == "unknown"
