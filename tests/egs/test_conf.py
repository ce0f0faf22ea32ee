"""Every configuration of every recipe is built; every distinct model and setting of training takes two updates."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from needs import needs
from tiny import run

from irl.core import config
from irl.core.errors import UserError
from irl.data.images import Images, write
from irl.data.kaldi import Utterance, write_data_dir
from irl.noise.text import KINDS
from irl.objective import PRESETS
from irl.reporting import results
from irl.training.registry import read_config, saved_config
from irl.vision.conditions import read_settings

needs("lightning_fabric")
EGS = Path(__file__).parents[2] / "egs"
RECIPES = ("wsj", "cifar", "ptb")
# At full size once each; other runs of the same recipe have a small model.
SMALL = {
    "speech": ["model.encoder_units=8", "model.decoder_units=8", "model.embedding_units=8", "model.attention_units=8"],
    "character_lm": ["model.units=8", "model.embedding_units=8"],
    "vision": ["model.width=1", "model.depth=10"],
    "language": ["model.units=8", "model.embedding_units=8"],
}


def folders(recipe):
    return sorted(path for path in (EGS / recipe / "conf").iterdir() if path.is_dir() and path.name != "methods")


def names(folder):
    """Of every configuration that a folder has, its own and those of methods/ beside it."""
    own = {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")}
    return sorted((own | {path.stem for path in folder.parent.glob("methods/*.yaml")}) - {"evaluation"})


def configurations(recipe):
    """{CONF/METHOD: configuration}, the IRL loss first."""
    pairs = [(folder, name) for folder in folders(recipe) for name in names(folder)]
    pairs.sort(key=lambda pair: not pair[1].startswith("irl_loss"))
    return {f"{folder.name}/{name}": read_config(folder / f"{name}.yaml", []) for folder, name in pairs}


def pattern(value):
    """A setting by its kind: numbers are on or off."""
    if isinstance(value, dict):
        return {key: pattern(item) for key, item in value.items()}
    return value if isinstance(value, (str, bool, list)) or value is None else value > 0


def settings(resolved):
    """(section, pattern) of each section; shapes, which are those of the model and of its input, are exact."""
    plain = {key: value for key, value in resolved.items() if not (isinstance(value, str) and "/" in value)}
    own = {key: pattern(value) for key, value in plain.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in plain.items() if isinstance(value, dict)}
    noise = {key: value for key, value in sections.get("noise", {}).items() if key not in ("musan", "rirs")}
    shapes = {key: sections.pop(key) for key in ("model", "features") if key in sections}
    shapes["model"].pop("dropout")
    found = {"own": own, **{key: pattern(value) for key, value in sections.items()}, **shapes, "noise": pattern(noise)}
    return {(resolved["task"], key, json.dumps(value, sort_keys=True)) for key, value in found.items()}


def distinct(recipe):
    """(CONF/METHOD, whether its model is new) of the configurations that have a setting which none before had."""
    seen, chosen = set(), []
    for name, found in configurations(recipe).items():
        new = settings(config.to_dict(found)) - seen
        if new:
            chosen.append((name, any(section == "model" for _, section, _ in new)))
        seen |= new
    return [pytest.param(*pair, id=pair[0]) for pair in chosen]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_folder_has_every_method(recipe):
    found = configurations(recipe)
    shared = {path.stem for path in (EGS / recipe / "conf/methods").glob("*.yaml")}
    assert all(f"{folder.name}/{name}" in found for folder in folders(recipe) for name in shared)
    for name in found:
        base = config.sources(EGS / recipe / "conf" / f"{name}.yaml")[0][0]
        assert Path(base).name.startswith(("irl_batching", "lm"))
    for folder in folders("cifar"):
        assert read_settings(folder / "evaluation.yaml", []).jitter == 0.5


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_file_repeats_another(recipe):
    files = sorted((EGS / recipe / "conf").rglob("*.yaml"))
    contents = {}
    for path in files:
        key = json.dumps(yaml.safe_load(path.read_text()), sort_keys=True)
        assert key not in contents, f"{path} repeats {contents[key]}"
        contents[key] = path
    assert len(files) > 5


def test_an_unknown_method_is_answered_by_those_there_are():
    with pytest.raises(
        UserError, match="mini/irl.yaml: no such configuration file, known are adversarial, baseline, .*"
    ):
        read_config(EGS / "cifar/conf/mini/irl.yaml", [])


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


@pytest.mark.parametrize("conf, full_size", distinct("wsj"))
def test_dry_run(folder, conf, full_size):
    path = EGS / "wsj/conf" / f"{conf}.yaml"
    found = read_config(path, [])
    two = ["train.updates=2", "train.batch_size=2", "train.eval_every=1", "train.log_every=1", "train.workers=0"]
    two += [] if full_size else SMALL[found.task]
    data = folder / f"{found.features.rate if found.task == 'speech' else 16000}"
    own = [f"train_dir={data}/train", f"dev_dir={data}/dev", f"vocabulary={data}/lang/tokens.txt"]
    speech = [f"statistics={data}/lang/statistics.json", f"noise.musan={data}/bank", "train.clean_updates=1"]
    exp = folder / "exp" / conf
    if found.task == "character_lm":
        run("irl.bin.prepare", path.parent / "irl_batching.yaml", *own, *speech[:1], "features.rate=16000", cwd=folder)
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


@pytest.mark.parametrize("conf, full_size", distinct("cifar"))
def test_dry_run_of_images(images, conf, full_size):
    """The paper's network, of 36.5 million weights, at full size once."""
    path = EGS / "cifar/conf" / f"{conf}.yaml"
    data = images / ("100" if conf.startswith("cifar100") else "10")
    found = read_config(path, [])
    small = [f"train_set={data}/train.npz", f"dev_set={data}/dev.npz", f"statistics={data}/statistics.json"]
    small += ["train.updates=2", "train.batch_size=4", "train.eval_every=0", "train.log_every=1"]
    # bfloat16, which is slow where the processor lacks it, is tried with small models.
    small += ["train.precision=32-true"] if full_size else SMALL["vision"]
    small += [f"labels={data.name}"] if found.labels else []
    small += ["unlabelled=2"] if found.unlabelled else []
    exp = images / "exp" / conf
    run("irl.bin.prepare", path, *small, cwd=images)
    run("irl.bin.train", path, *small, "--exp", exp, cwd=images)
    evaluate = ["--settings", path.parent / "evaluation.yaml", "--out", exp, "--conditions", "in", "fgsm_0.2"]
    run("irl.bin.evaluate", exp / "checkpoint.pt", "--data", data / "dev.npz", *evaluate, cwd=images)
    assert (exp / "dev" / "fgsm_0.2.json").exists()


@pytest.mark.parametrize("conf, full_size", distinct("ptb"))
def test_dry_run_of_texts(tmp_path, conf, full_size):
    """The paper's 1500 units once."""
    path = EGS / "ptb/conf" / f"{conf}.yaml"
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat .\n" * 30)
    small = [f"train_text={text}", f"dev_text={text}", f"vocabulary={tmp_path}/words.txt"]
    small += ["train.updates=2", "train.batch_size=2", *([] if full_size else SMALL["language"])]
    run("irl.bin.prepare", path, *small, cwd=tmp_path)
    run("irl.bin.train", path, *small, "--exp", tmp_path, cwd=tmp_path)
    run("irl.bin.evaluate", tmp_path / "checkpoint.pt", "--conditions", f"test={text}", "--out", tmp_path, cwd=tmp_path)
    assert (tmp_path / "test.json").exists()


def rows_of(folder):
    return {name: read_config(folder / f"{name}.yaml", []) for name in names(folder)}


@pytest.mark.parametrize(
    "folder", [path for path in folders("cifar") if path.name != "special"], ids=lambda path: path.name
)
def test_rows_of_the_table_differ_in_what_they_are_about(folder):
    """Those of the paper, and one that compares outputs; other rivals and controls are of some folders only."""
    rows = rows_of(folder)
    for other in ("lambda_r", "augmix"):
        rows.pop(other, None)
    double = rows.pop("data_aug_double", None)
    assert len(rows) == 10
    assert double is None or double.train.updates == 2 * rows["data_aug"].train.updates

    def difference(a, b):
        return {k for k in vars(rows[a]) if getattr(rows[a], k) != getattr(rows[b], k)}

    for name in ("baseline", "data_aug", "irl_loss", "kl"):
        assert difference(name, "irl_batching") == {"objective"}
    assert difference("adversarial", "irl_batching") == {"attack"}
    assert difference("weighted_adversarial", "adversarial") == {"objective"}
    assert difference("weighted_adversarial_irl_loss", "weighted_adversarial") == {"objective"}
    assert difference("semi_labelled", "irl_loss") == {"labels"}
    assert difference("semi_unlabelled", "semi_labelled") == {"unlabelled", "objective"}
    weights = {name: (c.objective.alpha, c.objective.beta, c.objective.gamma) for name, c in rows.items()}
    assert all(weights[name] == PRESETS[name] for name in rows if name in PRESETS)
    assert weights["weighted_adversarial_irl_loss"] == PRESETS["weighted_adversarial_irl_loss"]


@pytest.mark.parametrize("folder", folders("ptb"), ids=lambda path: path.name)
def test_rows_of_the_language_table_differ_in_objective_and_noise(folder):
    rows = rows_of(folder)
    assert len(rows) == 13
    base = rows["irl_batching_blank"]
    for name, expected in {
        "fraternal": {"noise", "objective"},
        "r_drop": {"noise", "objective"},
        "ar_tar": {"objective", "ar", "tar"},
    }.items():
        row = rows.pop(name)
        assert {k for k in vars(base) if getattr(base, k) != getattr(row, k)} == expected
        assert row.noise.p == (0 if name != "ar_tar" else 0.2)
    for name, row in rows.items():
        method, noise = next((name.removesuffix(f"_{n}"), n) for n in (*KINDS, "") if name.endswith(n))
        assert row.noise.kind == noise or name == "baseline"
        expected = {"objective"} if method != "irl_batching" else set()
        expected |= {"noise"} if noise not in ("blank", "") else set()
        assert {k for k in vars(base) if getattr(base, k) != getattr(row, k)} == expected
        weights = (row.objective.alpha, row.objective.beta, row.objective.gamma)
        assert weights == PRESETS["irl_loss" if method == "kl" else method] and row.noise.p == 0.2
    for method in ("data_aug", "irl_batching", "irl_loss"):
        assert rows[f"{method}_blank"].objective == rows[f"{method}_unigram"].objective


@pytest.mark.parametrize("folder", folders("wsj"), ids=lambda path: path.name)
def test_methods_differ_in_their_objective_alone(folder):
    """The difference between files is the whole claim of an experiment."""
    rows = rows_of(folder)
    base = rows["irl_batching"]
    for method in ("baseline", "data_aug", "irl_loss"):
        assert {k for k in vars(base) if getattr(base, k) != getattr(rows[method], k)} == {"objective"}


@pytest.mark.parametrize("path", sorted(EGS.glob("*/results/*.jsonl")), ids=lambda path: path.name)
def test_committed_results_have_their_digests(path):
    """They would differ if a default had changed: finished runs would then stand for runs with other settings."""
    rows = results.read(path)
    assert rows and all(row["digest"] == results.run_fingerprint(saved_config(row, path)) for row in rows)
