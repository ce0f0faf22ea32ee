"""Methods with feature settings of their own, in one table with the others."""

import json

import numpy as np
import pytest
import tiny

from irl.data.features import FeatureConfig
from irl.data.kaldi import read_data_dir, read_wave
from irl.speech.recogniser import Recogniser
from irl.speech.search_options import SearchOptions
from irl.speech.task import read_statistics


@pytest.fixture(scope="module")
def inside(recipes_by_task):
    folder = recipes_by_task("speech")
    (folder / "level.yaml").write_text("base: irl_loss.yaml\nfeatures: {normalise: level}\n")
    return folder


def plan(folder, *more):
    names = ("--methods", "irl_loss", "level", "--seeds", 1, 2, "--test-dirs", "data/dev", "--conditions", "vup")
    where = ("--results", "exp/planned/results.jsonl", "--corpus", "tiny", "--out", "exp/planned", "--nj", 1)
    tiny.run("irl.bin.plan", ".", *more, *names, *where, "--clean", "irl_batching", cwd=folder)
    lists = {name: (folder / f"exp/planned/{name}.list").read_text().splitlines() for name in ("clean", "train")}
    return lists["clean"], lists["train"]


def test_statistics_of_each(inside):
    path = inside / "data/lang/own.json"
    own = f"statistics={path}"
    tiny.run("irl.bin.prepare", "irl_batching.yaml", own, "--methods", "irl_loss", "level", cwd=inside)
    assert [json.loads(line)["features"]["normalise"] for line in path.read_text().splitlines()] == ["global", "level"]
    plain, level = (read_statistics(path, FeatureConfig(8000, 10, stack=2, normalise=n)) for n in ("global", "level"))
    shift = level.mean - plain.mean
    assert shift.std() < 1e-3 and abs(shift.mean()) > 2, "the level alone is subtracted"
    # The first line is what a single setting leaves.
    alone = inside / "data/lang/alone.json"
    tiny.run("irl.bin.prepare", "irl_batching.yaml", f"statistics={alone}", cwd=inside)
    assert alone.read_text() == path.read_text().splitlines()[0] + "\n"


def test_a_method_begins_at_the_end_of_a_clean_phase_with_its_own_features_alone(inside):
    clean, train = plan(inside)
    assert len(clean) == 2 and len(train) == 4
    for line in train:
        assert ("--start" in line) == ("irl_loss.yaml" in line)
    clean, train = plan(inside, "train.clean_updates=0")
    assert not clean and not any("--start" in line for line in train)


def test_a_trained_model_does_not_hear_the_level(inside):
    """It finds the same words 30 dB quieter and 10 dB louder. A model with global statistics hears the difference."""
    own = f"statistics={inside / 'data/lang/levels.json'}"
    tiny.run("irl.bin.prepare", "irl_batching.yaml", own, "--methods", "irl_batching", "level", cwd=inside)
    waves = [read_wave(u, tiny.RATE) for u in read_data_dir(inside / "data/dev")]
    found = {}
    for name in ("irl_batching", "level"):
        exp = f"exp/levels-{name}"
        tiny.run("irl.bin.train", f"{name}.yaml", own, "noise.kinds=[additive]", "--exp", exp, cwd=inside)
        recogniser = Recogniser(inside / exp / "checkpoint.pt")
        encoded = [recogniser.encode([np.float32(10 ** (db / 20)) * w for w in waves]) for db in (0, -30, -20, 10)]
        texts = [[recogniser.text(h[0]) for h in recogniser.search(e, SearchOptions(beam=2))] for e in encoded]
        away = [float((e.ctc - encoded[0].ctc).abs().max()) for e in encoded]
        found[name] = texts, away
    texts, away = found["level"]
    assert all(text == texts[0] for text in texts) and max(away) < 1e-3
    assert min(found["irl_batching"][1][1:]) > 0.1
