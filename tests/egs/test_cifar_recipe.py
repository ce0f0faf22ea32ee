"""egs/cifar end to end, in a copy of the recipe: all nine rows of the table in a few updates, and users' own images."""

import sys

import numpy as np
import pytest
import recipes
from needs import needs
from PIL import Image
from recipes import results_of, run

from irl.data.images import read

needs("sklearn")
PRESETS = (
    "baseline data_aug irl_batching irl_loss adversarial weighted_adversarial weighted_adversarial_irl_loss "
    "semi_labelled semi_unlabelled"
).split()
FEW = "train.updates=3 train.warmup_updates=1 train.batch_size=20 crops=2"


@pytest.fixture
def egs(tmp_path, warm_python):
    return recipes.copy("cifar", tmp_path, warm_python)


# Each row is four processes of some seconds: one of each kind here, all nine by make test-all.
SOME = ["irl_loss", "weighted_adversarial_irl_loss", "semi_unlabelled"]


@pytest.mark.parametrize("rows", [SOME, pytest.param(PRESETS, marks=pytest.mark.slow)], ids=["some", "all"])
def test_mini_through_all_stages(egs, rows):
    options = [
        "--methods",
        " ".join(rows),
        "--overrides",
        FEW,
        "--test-overrides",
        "slow_images=10",
        "--eps",
        "0.1 0.4",
    ]
    out = run("./run.sh", *options, cwd=egs).stdout
    for stage in range(8):
        assert f"stage {stage}: " in out
    assert "data/mini/test.npz: 716 images of 32x32, 10 classes" in out
    assert out.count(", 0 images of the sets before it") == 3
    lines = results_of(egs / "exp/mini/results.jsonl")
    assert sorted(line["method"] for line in lines) == sorted(rows)
    conditions = ["none", "in", "out", "fgsm_0.1", "fgsm_0.4", "pgd20_0.1", "random_0.1", "corruption"]
    assert all(list(line["conditions"]) == conditions and line["updates"] == 3 for line in lines)
    table = (egs / "exp/mini/report/table.md").read_text()
    for text in ("| weighted IRL loss |", "| few labels + unlabelled |", "Gradient masking", "PGD-20 0.1"):
        assert text in table
    assert ("| few labels + unlabelled - few labels |" in table) == (len(rows) == 9)
    for name in ("table.png", "table.svg", "distances.csv", "distances.png"):
        assert (egs / "exp/mini/report" / name).stat().st_size
    assert (egs / "data/mini/corruptions_of_test/jpeg_compression.npy").exists()
    # A second call finds nothing to do; another condition is evaluated without training again.
    again = run("./run.sh", *options, "--stage", "3", "--stop-stage", "6", cwd=egs).stdout
    assert (
        "runs without a result in exp/mini/results.jsonl: 0" in again
        and results_of(egs / "exp/mini/results.jsonl") == lines
    )
    more = ["--methods", "irl_loss", "--conditions", "none pgd2_0.3", "--stage", "4", "--stop-stage", "6"]
    out = run("./run.sh", *options, *more, cwd=egs).stdout
    assert "| PGD-2 0.3 |" in out


def test_images_of_ones_own_with_other_sizes(egs, tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for i in range(count):
            path = tmp_path / "own" / part / ("cats", "dogs", "owls")[i % 3] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    options = ["--corpus", "folder", "--source", tmp_path / "own", "--dev-images", "3", "--methods", "irl_loss",
               "--overrides", "train.updates=2 train.batch_size=3 train.eval_every=0 model.depth=10 model.width=1",
               "--conditions", "none out", "--conf", "conf/short"]  # fmt: skip
    out = run("./run.sh", *options, cwd=egs).stdout
    assert "data/folder/train.npz: 9 images of 24x20, 3 classes" in out
    (line,) = results_of(egs / "exp/folder/results.jsonl")
    assert list(line["conditions"]) == ["none", "out"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus", "imagenet"], "unknown corpus imagenet, known are cifar10 cifar100 folder mini parquet"),
        (["--corpus", "cifar10"], "--corpus cifar10 needs --source DIR"),
        (["--corpus", "cifar10", "--source", "nowhere"], "nowhere: neither cifar-10-python.tar.gz nor"),
        (["--corpus", "parquet", "--source", "."], "no train*.parquet there"),
        (["--corpus", "folder", "--source", "nowhere"], "nowhere/train: no such folder"),
        (["--eps", "0.2"], "--eps: expected two sizes"),
        (["--download", "yes"], "--download: expected true or false, found yes"),
        (["--overrides", "noise.hue=2"], "noise.hue: expected float in [0, 1], found 2"),
        (["--test-overrides", "jitter=2"], "jitter: expected float in [0, 1], found 2"),
    ],
)
def test_bad_options_are_one_line(egs, options, message):
    done = run("./run.sh", *options, "--stop-stage", "0", cwd=egs, check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_mini_corpus_is_a_function_of_its_code_with_no_digit_in_two_sets(egs):
    for name in ("a", "b"):
        run(sys.executable, "local/make_mini.py", f"data/{name}", cwd=egs)
    sets = {name: read(egs / "data/a" / f"{name}.npz") for name in ("train", "dev", "test")}
    assert [len(s) for s in sets.values()] == [5040, 358, 716]
    written = {name: set((s.numbers // 10).tolist()) for name, s in sets.items()}
    assert not written["train"] & written["dev"] and not (written["train"] | written["dev"]) & written["test"]
    for name, s in sets.items():
        assert s.digest() == read(egs / "data/b" / f"{name}.npz").digest()
