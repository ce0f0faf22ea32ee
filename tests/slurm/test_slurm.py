"""utils/slurm.py against a real Slurm of two nodes on this machine."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pictures
import pytest
import recipes
from ranks import run_ranks
from tiny import ROOT, run, same_weights

from irl.training import checkpoint

spec = importlib.util.spec_from_file_location("cluster", Path(__file__).parent / "cluster.py")
cluster = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cluster)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(cluster.missing()), reason="slurmctld, slurmd, slurm-client or munge is not installed"),
]
SLURM = ROOT / "utils" / "slurm.py"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    try:
        cluster.start(folder)
        yield folder
    finally:
        cluster.stop(folder)


@pytest.fixture
def environment(slurm):
    until = time.monotonic() + 60
    while len(cluster.idle(slurm)) < cluster.NODES and time.monotonic() < until:
        time.sleep(0.2)
    assert len(cluster.idle(slurm)) == cluster.NODES, "what a test before this one left"
    controller = slurm / "log" / "slurmctld"
    known = len(controller.read_text().splitlines())
    yield {**cluster.environment(slurm), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # For the transcript, `pytest -rP`: what the controller did meanwhile.
    print(*controller.read_text().splitlines()[known:], sep="\n")


def submit(*args, cwd, env):
    line = [sys.executable, str(SLURM), *map(str, args)]
    return subprocess.Popen(line, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_an_array_with_a_task_that_fails(environment, tmp_path):
    code = "import sys; print('at', sys.argv[1], '$HOME `id`'); sys.exit(sys.argv[1] == '3')"
    arguments = ["--max-jobs-run", 2, "--num-threads", 1, "JOB=1:4", "log/x.JOB.log", sys.executable, "-c", code, "JOB"]
    process = submit(*arguments, cwd=tmp_path, env=environment)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert text.count("failed, the end of") == 1 and "log/x.3.log" in text and "ended with status 1" in text
    for n in range(1, 5):
        lines = (tmp_path / f"log/x.{n}.log").read_text().splitlines()
        # The node's name, and no shell between.
        assert lines[0].startswith("# node") and f"at {n} $HOME `id`" in lines
        assert lines[-1].endswith(f"ended with status {int(n == 3)}")


def test_an_interrupt_cancels_what_was_submitted(environment, tmp_path):
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(100)"
    process = submit("x.log", sys.executable, "-c", code, cwd=tmp_path, env=environment)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(int((tmp_path / "pid").read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the job still runs")


LONG = ["train.updates=400", "train.save_every=20", "train.log_every=20"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = pictures.build_recipe(tmp_path_factory.mktemp("vision"))
    run("irl.bin.train", "irl_loss.yaml", *LONG, "--exp", "exp/whole", cwd=folder)
    return folder


def train(folder, name, environment):
    """Both processors of a node, so that nothing else fits beside it."""
    command = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", *LONG, "--exp", f"exp/{name}"]
    return submit("--num-threads", 2, f"exp/{name}.log", *command, cwd=folder, env=environment)


def lives(log):
    print(log.read_text())
    return [line.split()[1] for line in log.read_text().splitlines() if line.startswith("# node")]


def same(folder, name):
    return same_weights(*(checkpoint.load(folder / f"exp/{e}/checkpoint.pt") for e in ("whole", name)))


def test_a_preempted_training_saves_and_goes_on(environment, folder):
    process = train(folder, "preempted", environment)
    wait_for((folder / "exp/preempted/metrics.jsonl").exists, process)
    urgent = [
        "sbatch",
        "--partition=urgent",
        "--nodes=2",
        "--exclusive",
        "--output=/dev/null",
        "--wait",
        "--wrap=sleep 3",
    ]
    subprocess.run(urgent, env=environment, check=True, capture_output=True, timeout=120)
    _, text = process.communicate(timeout=180)
    log = (folder / "exp/preempted.log").read_text()
    assert process.returncode == 0, text + log
    assert (
        "SIGUSR1 at update" in log
        and "asked to be queued again" in log
        and len(lives(folder / "exp/preempted.log")) == 2
    )
    assert same(folder, "preempted"), "as if it had never been disturbed"


def test_a_training_whose_node_goes_down_goes_on_elsewhere(slurm, environment, folder):
    process = train(folder, "fallen", environment)
    wait_for((folder / "exp/fallen/checkpoint.pt").exists, process)
    (node,) = lives(folder / "exp/fallen.log")
    # The machine loses its power: the daemon and everything that it had begun.
    daemon = int((slurm / f"pid.{node}").read_text())
    begun = subprocess.run(["pgrep", "-f", "exp/fallen"], capture_output=True, text=True).stdout.split()
    steps = subprocess.run(["pgrep", "slurmstepd"], capture_output=True, text=True).stdout.split()
    for pid in [daemon, *map(int, steps), *(int(p) for p in begun if int(p) not in (process.pid, os.getpid()))]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], env=environment, check=True)
    _, text = process.communicate(timeout=180)
    try:
        assert process.returncode == 0, text + (folder / "exp/fallen.log").read_text()
        assert len(lives(folder / "exp/fallen.log")) == 2 and same(folder, "fallen")
    finally:
        cluster.end(slurm, node)
        cluster.start_node(slurm, int(node.removeprefix("node")))
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], env=environment)


def test_a_training_at_the_end_of_its_time_goes_on(environment, folder):
    """A job of a minute is told to save as soon as Slurm looks at its time."""
    longer = ["train.updates=3000", "train.save_every=1000"]
    run("irl.bin.train", "irl_loss.yaml", *longer, "--exp", "exp/long", cwd=folder)
    command = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", *longer, "--exp", "exp/late"]
    process = submit("--time", 1, "exp/late.log", *command, cwd=folder, env=environment)
    _, text = process.communicate(timeout=1500)
    log = (folder / "exp/late.log").read_text()
    assert process.returncode == 0, text + log
    assert "SIGUSR1 at update" in log and len(lives(folder / "exp/late.log")) > 1
    states = [checkpoint.load(folder / f"exp/{name}/checkpoint.pt") for name in ("long", "late")]
    assert same_weights(*states)


def several(folder, name, environment, *options):
    """One process on each of the two nodes, whose names are not those of machines."""
    command = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", *LONG, "--exp", f"exp/{name}"]
    where = {**environment, "MASTER_ADDR": "127.0.0.1"}
    return submit("--nodes", 2, *options, f"exp/{name}.log", *command, cwd=folder, env=where)


def test_a_training_on_two_nodes_is_preempted_and_goes_on(environment, folder):
    """To the bit as two processes that nobody disturbs."""
    run_ranks(2, "irl.bin.train", "irl_loss.yaml", *LONG, "--exp", "exp/two", cwd=folder)
    process = several(folder, "nodes", environment)
    wait_for((folder / "exp/nodes/metrics.jsonl").exists, process)
    urgent = ["sbatch", "--partition=urgent", "--output=/dev/null", "--wait", "--wrap=sleep 3"]
    subprocess.run(urgent + ["--exclusive"], env=environment, check=True, capture_output=True, timeout=120)
    _, text = process.communicate(timeout=180)
    log = (folder / "exp/nodes.log").read_text()
    assert process.returncode == 0, text + log
    assert "SIGUSR1 at update" in log and len(lives(folder / "exp/nodes.log")) == 2
    states = [checkpoint.load(folder / f"exp/{name}/checkpoint.pt") for name in ("two", "nodes")]
    assert same_weights(*states), "as if it had never been disturbed"


def test_an_error_on_one_of_two_nodes_ends_both(environment, folder):
    code = "import os, sys, time; time.sleep(1 if os.environ['SLURM_PROCID'] == '1' else 100); sys.exit('no memory')"
    process = submit("--nodes", 2, "x.log", sys.executable, "-c", code, cwd=folder, env=environment)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1 and "no memory" in text


def test_a_recipe_through_arrays(environment, tmp_path):
    egs = recipes.copy("ptb", tmp_path)
    (egs / "cmd.sh").write_text('train_cmd="slurm.py --num-threads 1 --time 10"\ndecode_cmd=slurm.py\n')
    few = "train.updates=4 model.units=10 model.embedding_units=10"
    options = ["--methods", "baseline irl_loss_blank", "--overrides", few]
    done = subprocess.run(["./run.sh", *options], cwd=egs, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(recipes.results_of(egs / "exp/mini/results.jsonl")) == 2
    for n in (1, 2):
        assert lives(egs / f"exp/mini/log/train.{n}.log")


def test_bad_resources_are_one_line(environment, tmp_path):
    for option, message in (
        (("--mem", "lots"), "slurm.py: sbatch: "),
        (("--partition", "none"), "invalid partition"),
        (("--machines", "2"), "cannot use --machines"),
    ):
        done = submit(*option, "x.log", "true", cwd=tmp_path, env=environment)
        _, text = done.communicate(timeout=30)
        assert done.returncode == 1 and message in text and "Traceback" not in text, text
