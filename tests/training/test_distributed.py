"""Several processes train as one does: the same examples, draws, losses and decisions, whatever their number."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny
import torch
from needs import needs
from ranks import begin, ends, run_ranks
from tiny import ENV, metrics, run, same_weights

from irl.core.errors import UserError
from irl.training import checkpoint, distributed
from irl.training.distributed import Shard
from irl.training.running_covariance import RunningCovariance

needs("lightning_fabric")


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_parts_of_a_batch_are_the_batch(of):
    rows = [4, 9, 2, 7]
    shards = [Shard(rank, of).batch(rows) for rank in range(of)]
    assert sorted(row for own, weight in shards for row in own if weight) == sorted(rows)
    # A process without rows runs the first one, with weight 0.
    assert all(weight == 1 or (own, weight) == ([4], 0) for own, weight in shards)


def test_sums_of_covariances_are_those_of_all_vectors():
    x = torch.randn(50, 5, generator=torch.manual_seed(0)) + 3
    whole, parts = RunningCovariance(), [RunningCovariance() for _ in range(4)]
    whole.add(x)
    for part, rows in zip(parts, ([], [0, 1, 2], range(3, 30), range(30, 50))):
        part.add(x[list(rows)])
    merged = RunningCovariance()
    for part in parts:
        merged.merge(part)
    assert merged.count == 50 and merged.effective_rank() == pytest.approx(whole.effective_rank(), rel=1e-9)


def keep_statistics(rank):
    """Batch norm in eval mode: in training it would look at each process's part alone."""
    train = torch.nn.Module.train
    torch.nn.BatchNorm2d.train = lambda self, mode=True: train(self, False)


def near(one, several, key="step"):
    """Within float error, which grows with each update, and where an attack takes a sign."""
    lines = [[line for line in metrics(path / "metrics.jsonl") if key in line] for path in (one, several)]
    assert len(lines[0]) == len(lines[1])
    for a, b in zip(*lines):
        assert a == pytest.approx(b, rel=1e-3, abs=2e-5)
    a, b = (checkpoint.load(path / "checkpoint.pt") for path in (one, several))
    assert a["model"].keys() == b["model"].keys()
    for name, value in a["model"].items():
        assert torch.allclose(value, b["model"][name], rtol=1e-3, atol=1e-4), name


SMOOTH = ["smoothness.omega_r=1", "smoothness.sigma=diagonal", "smoothness.method=reverse"]
# Speech: 22 utterances in batches of 3, so that in each epoch all processes but one have nothing of the last one.
SETTINGS = {
    "speech": ("irl_loss", ["train.batch_size=3", "model.dropout=0"]),
    "speech, accumulated": ("irl_loss", ["train.accumulate=3", "model.dropout=0", "objective.over=sample"]),
    "language": ("irl_loss", ["train.batch_size=7", "model.dropout=0", "train.learning_rate=0.1"]),
    "vision": ("irl_loss", ["model.dropout=0", "train.batch_size=7", "objective.copies=2", "objective.pairs=all"]),
    "vision, adversarial": ("pgd_loss", ["model.dropout=0"]),
    "vision, semi-supervised": ("semi", ["model.dropout=0", "unlabelled=5"]),
    # Without draws of its own, and with the covariance of the noise of all processes.
    "vision, smooth": ("irl_batching", ["model.dropout=0", "train.batch_size=7", *SMOOTH]),
}


@pytest.mark.parametrize("of", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_losses_in_any_number_of_processes(recipes_by_task, name, of):
    folder = recipes_by_task(name.partition(",")[0])
    method, overrides = SETTINGS[name]
    exps = [f"exp/{name.replace(', ', '_')}.{n}" for n in (1, of)]
    for n, exp in zip((1, of), exps):
        if not (folder / exp).exists():
            line = (f"{method}.yaml", *overrides, "train.log_every=1", "train.eval_every=6", "--exp", exp)
            done = run_ranks(n, "irl.bin.train", *line, cwd=folder, before=keep_statistics)
            assert all(not other.stderr and not other.stdout for other in done[1:]), "one process reports"
    near(*(folder / exp for exp in exps))


def test_a_run_goes_on_to_the_bit_and_in_another_number_of_processes(recipes_by_task):
    folder = recipes_by_task("language")
    line = ("irl_loss.yaml", "train.batch_size=7", "train.log_every=1", "--exp")
    run_ranks(2, "irl.bin.train", *line, "exp/whole", cwd=folder)
    run_ranks(2, "irl.bin.train", *line, "exp/again", "--stop", 12, cwd=folder)
    run_ranks(2, "irl.bin.train", *line, "exp/again", cwd=folder)
    states = [checkpoint.load(folder / f"exp/{exp}/checkpoint.pt") for exp in ("whole", "again")]
    assert same_weights(*states)
    whole, again = (
        [line for line in metrics(folder / f"exp/{exp}/metrics.jsonl") if "total" in line] for exp in ("whole", "again")
    )
    assert whole == again
    # In the middle of an epoch: the states of the rows go over to other processes.
    line = ("irl_loss.yaml", *SETTINGS["language"][1], "train.log_every=1", "--exp")
    run("irl.bin.train", *line, "exp/one", cwd=folder)
    for of, stop in ((3, 12), (1, 22), (2, 40)):
        run_ranks(of, "irl.bin.train", *line, "exp/changing", "--stop", stop, cwd=folder)
    near(folder / "exp/one", folder / "exp/changing", "total")


def test_torchrun_and_what_one_process_alone_is_told(recipes_by_task):
    """The same as forked processes; a signal to one of them stops all, at one update."""
    folder = recipes_by_task("vision")
    begun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "irl.bin.train",
    ]
    line = ["irl_loss.yaml", "train.log_every=1", "--exp"]
    run_ranks(2, "irl.bin.train", *line, "exp/forked", cwd=folder)
    done = subprocess.run(begun + [*line, "exp/torchrun"], cwd=folder, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    several, queue = begin(2, "irl.bin.train", *line, "exp/told", "train.save_every=1000", cwd=folder)
    while not (folder / "exp/told/metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(several[1].pid, signal.SIGUSR1)
    ended = dict(ends(several, queue))
    assert [ended[rank].returncode for rank in (0, 1)] == [75, 75]
    assert 0 < checkpoint.load(folder / "exp/told/checkpoint.pt")["step"] < 12
    run_ranks(2, "irl.bin.train", *line, "exp/told", cwd=folder)
    states = [checkpoint.load(folder / f"exp/{exp}/checkpoint.pt") for exp in ("forked", "torchrun", "told")]
    assert same_weights(*states[:2]) and same_weights(states[0], states[2])


def test_the_error_of_one_process_stops_the_others(recipes_by_task):
    def cannot_read(rank):
        from irl.speech import data

        count = itertools.count()

        def read(utterance, rate, known=data.read_wave):
            if next(count) == 30:
                raise UserError("a damaged file")
            return known(utterance, rate)

        if rank == 1:
            data.read_wave = read

    begun = time.monotonic()
    line = ("irl_loss.yaml", "train.updates=200", "--exp", "exp/failing")
    done = run_ranks(2, "irl.bin.train", *line, cwd=recipes_by_task("speech"), before=cannot_read, check=False)
    assert time.monotonic() - begun < 60
    assert [each.returncode for each in done] == [1, 1]
    assert done[1].stderr.endswith("error: a damaged file\n")
    assert done[0].stderr.endswith("error: process 0 of 2: another has gone; its own error tells why\n")


def test_a_process_that_is_killed_stops_the_others(recipes_by_task):
    folder = recipes_by_task("language")
    line = ("irl_loss.yaml", "train.updates=100000", "train.save_every=5", "--exp", "exp/killed")
    several, queue = begin(2, "irl.bin.train", *line, cwd=folder)
    while not (folder / "exp/killed/checkpoint.pt").exists():
        time.sleep(0.01)
    several[1].kill()
    ((rank, done),) = ends(several, queue, 1, seconds=60)
    assert rank == 0 and done.returncode == 1
    assert "another has gone" in done.stderr and "Traceback" not in done.stderr
    # What was saved is whole.
    assert checkpoint.load(folder / "exp/killed/checkpoint.pt")["step"] % 5 == 0


def test_an_update_is_skipped_by_all_processes_or_by_none(recipes_by_task):
    """A loss that is not finite in one process: the gradients of all are not."""

    def broken(rank):
        from irl.vision.data import VisionData

        def make(self, epoch, plan, known=VisionData.make):
            batch = known(self, epoch, plan)
            spoilt = rank == 1 and (epoch, plan.batch) == (1, 2)
            return batch._replace(clean=batch.clean * float("nan")) if spoilt else batch

        VisionData.make = make
        keep_statistics(rank)

    folder = recipes_by_task("vision")
    run_ranks(2, "irl.bin.train", "irl_loss.yaml", "--exp", "exp/skipping", cwd=folder, before=broken)
    state = checkpoint.load(folder / "exp/skipping/checkpoint.pt")
    assert state["skipped"] == 1 and all(torch.isfinite(value).all() for value in state["model"].values())


def test_pairs_with_others_need_others(recipes_by_task):
    line = ("irl_loss.yaml", "objective.pairs=in_batch", "train.batch_size=3", "--exp", "exp/others")
    done, _ = run_ranks(2, "irl.bin.train", *line, cwd=recipes_by_task("vision"), check=False)
    assert done.returncode == 1 and "leaves fewer than two for each of 2" in done.stderr


def test_more_processes_than_examples_of_a_batch_are_refused(recipes_by_task):
    done = run_ranks(
        3,
        "irl.bin.train",
        "irl_loss.yaml",
        "train.batch_size=2",
        "--exp",
        "exp/few",
        cwd=recipes_by_task("vision"),
        check=False,
    )
    for each in done:
        assert each.returncode == 1
        assert each.stderr == "error: train.batch_size 2 is less than the 3 processes that share it\n"


def test_alone_nothing_is_exchanged():
    x = torch.ones(2)
    assert (
        distributed.all_reduce_sum(x) is x
        and distributed.all_reduce_max(3) == 3
        and distributed.all_gather("a") == ["a"]
    )
    with pytest.raises(RuntimeError, match="gloo"), distributed.together():
        raise RuntimeError("gloo")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1, "LightningEnvironment")),
        # A batch script of a job of four: one process, until srun begins them.
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_NNODES": "1"}, (1, 1, "LightningEnvironment")),
        # In a shell of salloc the job's name is "interactive", which Fabric takes for a shell without srun.
        (
            {
                "SLURM_JOB_NAME": "interactive",
                "SLURM_NTASKS": "4",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_STEP_NUM_NODES": "2",
            },
            (2, 2, "SLURMEnvironment"),
        ),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (2, 2, "TorchElasticEnvironment")),
    ],
)
def test_who_has_begun_how_many(monkeypatch, environment, expected):
    from irl.training import distributed

    monkeypatch.setattr(os, "environ", dict(environment))
    *sizes, known = distributed._processes()
    assert (*sizes, type(known).__name__) == expected


def test_nodes_with_different_numbers_of_processes_are_refused(monkeypatch):
    from irl.training import distributed

    monkeypatch.setattr(os, "environ", {"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2"})
    with pytest.raises(UserError, match="srun has begun 3 processes on 2 nodes"):
        distributed._processes()


def test_a_job_of_the_dispatcher_shows_the_error(recipes_by_task):
    folder = recipes_by_task("vision")
    line = [sys.executable, str(tiny.ROOT / "utils/run.py"), "--ranks", "2", "x.log"]
    command = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", "train_set=data/none.npz", "--exp", "exp/none"]
    done = subprocess.run(line + command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "error: data/none.npz" in done.stderr and "Traceback" not in done.stderr
