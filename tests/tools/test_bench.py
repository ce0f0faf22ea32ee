"""The benchmarks' statistics; the benchmarks themselves are run by hand."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "tools" / "bench"


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("harness", BENCH / "harness.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["harness"]


def test_the_interval_of_a_median_covers_it(harness):
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(2000, 30))
    found = [harness.median_interval(row) for row in draws]
    covered = np.mean([r.low <= np.log(2) <= r.high for r in found])
    assert 0.95 <= covered < 0.975, "at least 95 %, and no wider than it must be"
    # The 10th and the 21st of 30 values.
    ratio = harness.median_interval(np.arange(1.0, 31))
    assert (ratio.low, ratio.median, ratio.high) == (10, 15.5, 21)


def test_alternatives_take_turns(harness):
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    steps["c"] = lambda: (order.append("c"), time.sleep(0.002))
    seconds = harness.alternate(steps, rounds=6, warmup=1)
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 6)
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(rounds) == 7 and set(rounds) == {"abc", "bca", "cab"}
    assert seconds["c"].min() > 0.002


def test_too_few_rounds_are_refused():
    command = [sys.executable, str(BENCH / "scoring.py"), "--rounds", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "--rounds must be at least 6, got 5" in done.stderr


@pytest.mark.slow
def test_the_gpu_script_runs_without_one(tmp_path):
    command = [BENCH / "gpu.sh", tmp_path, "--device", "cpu", "--tiny", "--parts", "draws and noise", "objective"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable})
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"} and len(rows) > 20
    assert len((tmp_path / "gpu.md").read_text().splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_a_part_of_the_gpu_script_ends_when_its_time_is_up(tmp_path):
    command = [
        BENCH / "gpu.sh",
        tmp_path,
        "--device",
        "cpu",
        "--tiny",
        "--stretch",
        "0.02",
        "--parts",
        "models",
        "peaks",
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable})
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [(row["part"], row["status"]) for row in rows[1:]] == [("models", "TIME UP"), ("peaks", "TIME UP")]
