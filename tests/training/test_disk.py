"""A disk that is full, or that may only be read, while a run trains: one clear line, and nothing is lost."""

import subprocess
import sys

import pytest
import words
from needs import needs
from tiny import ENV, metrics, run, same_weights

from irl.training import checkpoint

needs("lightning_fabric")
OFTEN = ["train.log_every=1", "train.save_every=3"]


def train(*args, cwd):
    """In a process of its own, which holds no file when it has ended."""
    line = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", *OFTEN, *map(str, args)]
    return subprocess.run(line, cwd=cwd, env=ENV, capture_output=True, text=True)


def mount(folder, options):
    return subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = words.build_recipe(tmp_path_factory.mktemp("words"))
    run("irl.bin.train", "irl_loss.yaml", *OFTEN, "--exp", "whole", cwd=folder)
    return folder


@pytest.fixture
def disk(recipe):
    """Where the experiments lie; `size` changes how much fits in."""
    folder = recipe / "exp"
    folder.mkdir(exist_ok=True)
    if not mount(folder, ["-t", "tmpfs", "-o", "size=1m", "tmpfs"]):
        pytest.skip("no file system may be mounted here")
    yield lambda options: mount(folder, ["-o", f"remount,{options}"])
    subprocess.run(["umount", str(folder)], check=True)


# Too small for TensorBoard, and for a second checkpoint.
@pytest.mark.parametrize("size", [pytest.param("8k", marks=pytest.mark.slow), "60k"])
def test_a_full_disk(recipe, disk, size):
    assert disk(f"size={size}")
    done = train("--exp", "exp/a", cwd=recipe)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: exp/a/") and "cannot be written: No space left on device" in last
    assert disk("size=1m")
    assert train("--exp", "exp/a", cwd=recipe).returncode == 0
    states = [checkpoint.load(recipe / path / "checkpoint.pt") for path in ("whole", "exp/a")]
    assert same_weights(*states) and metrics(recipe / "whole/metrics.jsonl") == metrics(recipe / "exp/a/metrics.jsonl")


@pytest.mark.slow
def test_a_read_only_disk(recipe, disk):
    assert train("--exp", "exp/a", "--stop", 19, cwd=recipe).returncode == 0
    assert disk("ro")
    for exp, named in (("exp/a", "exp/a/train.log"), ("exp/b", "exp/b")):
        done = train("--exp", exp, cwd=recipe)
        assert done.returncode == 1 and done.stderr.endswith(f"{named}: Read-only file system\n")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert disk("rw")
    assert train("--exp", "exp/a", cwd=recipe).returncode == 0
    states = [checkpoint.load(recipe / path / "checkpoint.pt") for path in ("whole", "exp/a")]
    assert same_weights(*states)
