"""Every configuration of every recipe trains two updates at its full size and decodes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import run

from irl import results
from irl.data.kaldi import Utterance, write_data_dir
from irl.experiment import read_config, saved_config

pytest.importorskip("lightning_fabric")
CONF = Path(__file__).parent.parent / "egs" / "wsj" / "conf"
CONFS = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data and a bank at both sampling rates."""
    folder, rng = tmp_path_factory.mktemp("conf"), np.random.default_rng(0)
    for rate in (8000, 16000):
        for name, count in (("train", 4), ("dev", 2)):
            rows = []
            for i in range(count):
                path = folder / f"{rate}" / "wav" / f"{name}{i}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * rng.normal(size=rate), rate)
                rows.append(Utterance(f"s{i % 2}-{name}{i}", str(path), f"s{i % 2}", "AB"))
            write_data_dir(folder / f"{rate}" / name, rows)
        for category in ("noise", "music"):
            path = folder / f"{rate}" / "bank" / category / "a.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, 0.1 * rng.normal(size=rate), rate)
    return folder


@pytest.mark.parametrize("conf", CONFS)
def test_dry_run(folder, conf):
    path = CONF / conf
    two = ["train.updates=2", "train.batch_size=2", "train.eval_every=1", "train.log_every=1", "train.workers=0"]
    rate = 16000 if "lm" in path.stem else read_config(path, []).features.rate
    data = folder / f"{rate}"
    own = [f"train_dir={data}/train", f"dev_dir={data}/dev", f"vocabulary={data}/lang/tokens.txt"]
    speech = [f"statistics={data}/lang/statistics.json", f"noise.musan={data}/bank", "train.clean_updates=1"]
    exp = folder / "exp" / conf
    if path.stem == "lm":
        run("irl.prepare", CONF / "mini/irl_batching.yaml", *own, *speech[:1], cwd=folder)
        run("irl.train", path, *own, *two, "--exp", exp, cwd=folder)
        return
    run("irl.prepare", path, *own, *speech, *two, cwd=folder)
    run("irl.train", path, *own, *speech, *two, "--exp", exp, cwd=folder)
    run("irl.decode", exp / "checkpoint.pt", "--data", data / "dev", "--out", exp, "--beam", 2, cwd=folder)
    assert (exp / "dev" / "text").read_text().count("\n") == 2


def test_methods_differ_in_their_objective_alone():
    """The difference between files is the whole claim of an experiment."""
    for corpus in CONF.iterdir():
        base = read_config(corpus / "irl_batching.yaml", [])
        for method in ("baseline", "data_aug", "irl_loss"):
            other = read_config(corpus / f"{method}.yaml", [])
            assert {k for k in vars(base) if getattr(base, k) != getattr(other, k)} == {"objective"}


@pytest.mark.parametrize("path", sorted((CONF.parent / "results").glob("*.jsonl")), ids=lambda path: path.name)
def test_committed_results_have_their_digests(path):
    """They would differ if a default had changed: finished runs would then stand for runs with other settings."""
    rows = results.read(path)
    assert rows and all(row["digest"] == results.run_digest(saved_config(row, path)) for row in rows)
