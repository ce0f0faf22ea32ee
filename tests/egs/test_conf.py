"""Every configuration of every recipe trains two updates at its full size and decodes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import run

from irl.data.images import Images, write
from irl.data.kaldi import Utterance, write_data_dir
from irl.objective import PRESETS
from irl.reporting import results
from irl.training.registry import modality, read_config, saved_config

pytest.importorskip("lightning_fabric")
EGS = Path(__file__).parents[2] / "egs"
CONF, IMAGES, TEXTS = EGS / "wsj" / "conf", EGS / "cifar" / "conf", EGS / "ptb" / "conf"
CONFS = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))
OF_IMAGES = sorted(str(path.relative_to(IMAGES)) for path in IMAGES.rglob("*.yaml") if path.stem != "evaluation")


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
        run("irl.bin.prepare", CONF / "mini/irl_batching.yaml", *own, *speech[:1], cwd=folder)
        run("irl.bin.train", path, *own, *two, "--exp", exp, cwd=folder)
        return
    run("irl.bin.prepare", path, *own, *speech, *two, cwd=folder)
    run("irl.bin.train", path, *own, *speech, *two, "--exp", exp, cwd=folder)
    run("irl.bin.evaluate", exp / "checkpoint.pt", "--conditions", data / "dev", "--out", exp, "--beam", 2, cwd=folder)
    assert (exp / "dev" / "text").read_text().count("\n") == 2


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Sets of 10 and of 100 classes at the size of the real ones."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for classes in (10, 100):
        for name, count in (("train", 2 * classes), ("dev", 2)):
            pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            labels, numbers = np.arange(count) % classes, np.arange(count)
            write(
                folder / f"{classes}" / f"{name}.npz", Images(pixels, labels, numbers, [str(c) for c in range(classes)])
            )
    return folder


@pytest.mark.parametrize("conf", OF_IMAGES)
def test_dry_run_of_images(images, conf):
    """The paper's networks, of 36.5 million weights, at full size once; the other rows with their depth alone."""
    path = IMAGES / conf
    data = images / ("100" if conf.startswith("cifar100") else "10")
    settings = read_config(path, [])
    small = [f"train_set={data}/train.npz", f"dev_set={data}/dev.npz", f"statistics={data}/statistics.json"]
    small += ["train.updates=2", "train.batch_size=4", "train.eval_every=0", "train.log_every=1"]
    small += ["model.width=1"] if settings.model.width > 1 and conf != "cifar10/irl_loss.yaml" else []
    small += [f"labels={data.name}"] if settings.labels else []
    small += ["unlabelled=2"] if settings.unlabelled else []
    exp = images / "exp" / conf
    run("irl.bin.prepare", path, *small, cwd=images)
    run("irl.bin.train", path, *small, "--exp", exp, cwd=images)
    evaluate = ["--settings", path.parent / "evaluation.yaml", "--out", exp, "--conditions", "in", "fgsm_0.2"]
    run("irl.bin.evaluate", exp / "checkpoint.pt", "--data", data / "dev.npz", *evaluate, cwd=images)
    assert (exp / "dev" / "fgsm_0.2.json").exists()


@pytest.mark.parametrize(
    "folder", sorted(path for path in IMAGES.iterdir() if path.name != "special"), ids=lambda path: path.name
)
def test_rows_of_the_table_differ_in_what_they_are_about(folder):
    others = ("evaluation", "lambda_r")
    rows = {path.stem: read_config(path, []) for path in folder.glob("*.yaml") if path.stem not in others}
    assert len(rows) == 9

    def difference(a, b):
        return {k for k in vars(rows[a]) if getattr(rows[a], k) != getattr(rows[b], k)}

    for name in ("baseline", "data_aug", "irl_loss"):
        assert difference(name, "irl_batching") == {"objective"}
    assert difference("adversarial", "irl_batching") == {"attack"}
    assert difference("weighted_adversarial", "adversarial") == {"objective"}
    assert difference("weighted_adversarial_irl_loss", "weighted_adversarial") == {"objective"}
    assert difference("semi_labelled", "irl_loss") == {"labels"}
    assert difference("semi_unlabelled", "semi_labelled") <= {"unlabelled", "objective"}
    weights = {name: (c.objective.alpha, c.objective.beta, c.objective.gamma) for name, c in rows.items()}
    assert all(weights[name] == PRESETS[name] for name in rows if name in PRESETS)
    assert weights["weighted_adversarial_irl_loss"] == PRESETS["weighted_adversarial_irl_loss"]


@pytest.mark.parametrize("conf", sorted(str(path.relative_to(TEXTS)) for path in TEXTS.rglob("*.yaml")))
def test_dry_run_of_texts(tmp_path, conf):
    """The paper's 1500 units once; the other rows with fewer."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat .\n" * 30)
    small = [f"train_text={text}", f"dev_text={text}", f"vocabulary={tmp_path}/words.txt"]
    small += ["train.updates=2", "train.batch_size=2"]
    small += ["model.units=8", "model.embedding_units=8"] if conf != "ptb/irl_loss_blank.yaml" else []
    run("irl.bin.prepare", TEXTS / conf, *small, cwd=tmp_path)
    run("irl.bin.train", TEXTS / conf, *small, "--exp", tmp_path, cwd=tmp_path)
    run("irl.bin.evaluate", tmp_path / "checkpoint.pt", "--conditions", f"test={text}", "--out", tmp_path, cwd=tmp_path)
    assert (tmp_path / "test.json").exists()


@pytest.mark.parametrize("folder", sorted(TEXTS.iterdir()), ids=lambda path: path.name)
def test_rows_of_the_language_table_differ_in_objective_and_noise(folder):
    rows = {path.stem: read_config(path, []) for path in folder.glob("*.yaml")}
    assert len(rows) == 7
    base = rows["irl_batching_blank"]
    for name, row in rows.items():
        method, _, noise = name.rpartition("_")
        expected = ({"objective"} if method != "irl_batching" else set()) | ({"noise"} if noise == "unigram" else set())
        assert {k for k in vars(base) if getattr(base, k) != getattr(row, k)} == expected
        weights = (row.objective.alpha, row.objective.beta, row.objective.gamma)
        assert weights == PRESETS[method or name] and row.noise.p == 0.2
    for method in ("data_aug", "irl_batching", "irl_loss"):
        assert rows[f"{method}_blank"].objective == rows[f"{method}_unigram"].objective


def test_methods_differ_in_their_objective_alone():
    """The difference between files is the whole claim of an experiment."""
    for corpus in CONF.iterdir():
        base = read_config(corpus / "irl_batching.yaml", [])
        for method in ("baseline", "data_aug", "irl_loss"):
            other = read_config(corpus / f"{method}.yaml", [])
            assert {k for k in vars(base) if getattr(base, k) != getattr(other, k)} == {"objective"}


@pytest.mark.parametrize("path", sorted(EGS.glob("*/results/*.jsonl")), ids=lambda path: path.name)
def test_committed_results_have_their_digests(path):
    """They would differ if a default had changed: finished runs would then stand for runs with other settings."""
    rows = results.read(path)
    assert rows and all(
        row["digest"] == results.run_fingerprint(saved_config(row, path), modality(row["config"]["task"], "row"))
        for row in rows
    )
