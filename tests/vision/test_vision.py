import json
import shutil

import numpy as np
import pictures
import pytest
import torch
from needs import needs
from tiny import metrics, run, same_weights
from torch.nn import functional as F

from irl.core.config import load
from irl.core.errors import UserError
from irl.core.rng import Keys, seed_step
from irl.data.augment import Crops
from irl.data.images import read
from irl.noise.image import ImageNoise
from irl.training import checkpoint
from irl.training.task import BatchSpec
from irl.vision.config import VisionConfig
from irl.vision.data import Statistics, VisionData
from irl.vision.task import VisionTask

needs("lightning_fabric")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures.build_recipe(tmp_path_factory.mktemp("vision"))


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def settings(name, *overrides):
    return load(VisionConfig, f"{name}.yaml", overrides)


def test_statistics_are_those_of_the_training_pixels(inside):
    found = Statistics.read(inside / "data/statistics.json")
    pixels = read(inside / "data/train.npz").images.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-6)
    x = torch.rand(2, 3, 4, 4) * 255
    mean, std = found.mean.view(3, 1, 1), found.std.view(3, 1, 1)
    torch.testing.assert_close(found.normalise(x), (x - mean) / std, rtol=1e-5, atol=1e-5)
    (inside / "bad.json").write_text('{"pixels": 3}')
    with pytest.raises(UserError, match="bad.json: damaged statistics"):
        Statistics.read(inside / "bad.json")


def test_views_share_crop_and_flip_and_differ_by_the_noise_alone(inside):
    config = settings("irl_batching")
    data = VisionData("data/train.npz", config, Statistics.read(inside / "data/statistics.json"), "train")
    batch = data.make(3, BatchSpec(2, True, 2))
    raw = read(inside / "data/train.npz")
    rows = torch.tensor([raw.numbers.tolist().index(i) for i in batch.ids.tolist()])
    x = Crops(1).apply(torch.from_numpy(raw.images), rows, Keys(batch.ids, config.seed, "crops", 3)).float()
    torch.testing.assert_close(batch.clean, data.statistics.normalise(x))
    noise = ImageNoise(config.noise, data.statistics.directions)
    for copy, view in enumerate(batch.noisy, 1):
        params = noise.draw(Keys(batch.ids, config.seed, "noise/train", 3, copy))
        torch.testing.assert_close(view, data.statistics.normalise(noise.apply(x, params)))
    assert (batch.y.numpy() == raw.labels[rows]).all() and not torch.equal(*batch.noisy)


def test_an_epoch_holds_every_image_once(inside):
    data = VisionData(
        "data/train.npz", settings("irl_batching"), Statistics.read(inside / "data/statistics.json"), "train"
    )
    epochs = [
        torch.cat([data.make(e, BatchSpec(b, True, 0)).ids for b in range(data.batches)]).tolist() for e in (0, 1)
    ]
    assert data.batches == 5 and all(len(set(ids)) == 40 for ids in epochs) and epochs[0] != epochs[1]


def test_labels_and_unlabelled_images(inside):
    config = settings("semi")
    data = VisionData("data/train.npz", config, Statistics.read(inside / "data/statistics.json"), "train")
    assert np.bincount(data.labels[data.labelled]).tolist() == [4] * 4
    assert not set(data.labelled.tolist()) & set(data.unlabelled.tolist()) and len(data.unlabelled) == 28
    batches = [data.make(epoch, BatchSpec(b, True, 1)) for epoch in range(20) for b in range(data.batches)]
    labelled = set(data.numbers[data.labelled].tolist())
    for batch in batches:
        assert len(batch.ids) == 14 and len(batch.y) == 8
        assert set(batch.ids[:8].tolist()) <= labelled and not set(batch.ids[8:].tolist()) & labelled
    # 28 images in batches of 6: four batches a round, each image at most once in a round, all in ten.
    rounds = [torch.cat([b.ids[8:] for b in batches[i : i + 4]]).tolist() for i in range(0, 40, 4)]
    assert all(len(set(ids)) == 24 for ids in rounds) and len(set(sum(rounds, []))) == 28
    # The draw is the seed's, and no other seed's.
    other = settings("semi", "seed=2")
    again = VisionData("data/train.npz", other, Statistics.read(inside / "data/statistics.json"), "train")
    assert not torch.equal(again.labelled, data.labelled)


@pytest.mark.parametrize("name", ["irl_loss", "semi"])
def test_one_update_equals_a_plain_one(inside, name):
    """Cross-entropy of the labelled rows of both views, and the distances of all rows, written down in float64."""
    config = settings(name, "objective.warmup=0", "model.dropout=0")
    task = VisionTask(config)
    task.module.double()
    batch = task.train.make(0, BatchSpec(1, True, 1))
    batch = batch._replace(clean=batch.clean.double(), noisy=[x.double() for x in batch.noisy])
    terms = task.module(batch, "paired", 0)
    output = task.module.model(torch.cat([batch.clean, *batch.noisy]))
    rows, labels = len(batch.ids), len(batch.y)
    clean, noisy = output.logits[:labels], output.logits[rows : rows + labels]
    distance = 0
    hidden = output.hidden["group3.block0"].flatten(1)
    for i in range(rows):
        a, b = hidden[i], hidden[rows + i]
        distance += (0.1 * (a - b).norm() + 1 - a @ b / (a.norm() * b.norm())) / rows
    expected = 0.5 * F.cross_entropy(clean, batch.y) + 0.5 * F.cross_entropy(noisy, batch.y) + distance
    torch.testing.assert_close(terms.total, expected, rtol=1e-9, atol=0)


def test_gamma_0_is_irl_batching_to_the_bit(folder):
    run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/batching", cwd=folder)
    run("irl.bin.train", "irl_loss.yaml", "objective.gamma=0", "--exp", "exp/gamma0", cwd=folder)
    a, b = (checkpoint.load(folder / "exp" / name / "checkpoint.pt") for name in ("batching", "gamma0"))
    assert same_weights(a, b)


@pytest.mark.parametrize("name", ["irl_loss", "pgd_loss", "semi", "teacher"])
def test_resumed_runs_equal_unbroken_ones_to_the_bit(folder, name):
    run("irl.bin.train", f"{name}.yaml", "--exp", f"exp/{name}", cwd=folder)
    for stop in (3, 7, 12):
        run("irl.bin.train", f"{name}.yaml", "--exp", f"exp/{name}.parts", "--stop", stop, cwd=folder)
    whole, parts = (checkpoint.load(folder / "exp" / x / "checkpoint.pt") for x in (name, f"{name}.parts"))
    assert same_weights(whole, parts) and whole["step"] == 12
    ends = [metrics(folder / "exp" / x / "metrics.jsonl")[-1] for x in (name, f"{name}.parts")]
    assert ends[0] == ends[1] and "dev/error/noisy" in ends[0] and "dev/rank/group3.block0" in ends[0]


def test_it_learns(folder):
    overrides = ["train.updates=60", "train.clean_updates=0", "train.batch_size=16"]
    run("irl.bin.train", "irl_loss.yaml", *overrides, "--exp", "exp/learns", cwd=folder)
    last = metrics(folder / "exp/learns/metrics.jsonl")[-1]
    assert last["dev/error/clean"] < 0.2 and last["dev/error/noisy"] < 0.4


def test_attacks_in_training_are_redrawn_each_step_and_follow_the_weights(inside):
    config = settings("pgd_loss")
    task = VisionTask(config)
    batch = task.train.make(0, BatchSpec(0, True, 1))
    assert batch.noisy == [] and batch.attacked == 1
    first, second = (task.module.copies(batch, step)[0] for step in (0, 1))
    assert not torch.equal(first, second) and torch.equal(first, task.module.copies(batch, 0)[0])
    assert (first - batch.clean).abs().max() <= 0.1 + 1e-5
    # Data augmentation by attacks alone: the clean images are there to be attacked, though no term looks at them.
    assert task.train.make(0, BatchSpec(0, False, 1)).clean is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch_size=64"], "data/train.npz: train.batch_size 64 exceeds the 44 labelled images"),
        (["labels=48"], "data/train.npz: labels 48 asks for 12 of each class, but class 0 has 11 images"),
        (["labels=10"], "data/train.npz: labels must be a multiple of the 4 classes, got 10"),
        (["labels=40", "unlabelled=9", "objective.gamma=1"], "unlabelled 9 exceeds the 4 there are"),
        (["unlabelled=4"], "unlabelled images need labels"),
        (["labels=8", "unlabelled=4", "objective.gamma=1", "attack.kind=fgsm"], "attacks need labels"),
        (["model.depth=11"], "model.depth: expected int of the form 6n + 4, n >= 1, found 11"),
        (["noise.hue=2"], "noise.hue: expected float in [0, 1], found 2"),
        (
            ["attack.kind=magic"],
            "attack.kind: expected one of '', fgsm, pgd, apgd_ce, apgd_dlr, random, vat, found 'magic'",
        ),
        (["objective.gamma=1", "objective.from_layer=group4.block0"], "unknown layer 'group4.block0'"),
        (["train.decay=steps"], "train: milestones: decay steps, and no other, needs some"),
        (["crops=8"], "data/train.npz: crops 8 must be smaller than the images, 8x8"),
        (["seed=18446744073709551616"], "seed: expected int from -2^63 to 2^63 - 1, found 18446744073709551616"),
        (["train.weight_decay=.nan"], "train.weight_decay: expected a finite float, found nan"),
        (["noise.lighting_axes=none"], "noise.lighting_axes: expected one of eigenvalues, deviations, found 'none'"),
        (["dev_set=data/none.npz"], "data/none.npz: no such set of images"),
    ],
)
def test_bad_settings_are_one_line(folder, overrides, message):
    done = run("irl.bin.train", "irl_batching.yaml", *overrides, "--exp", "exp/bad", cwd=folder, check=False)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    shutil.rmtree(folder / "exp/bad", ignore_errors=True)


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        ([], False),
        (["train.clean_updates=0"], True),
        (["train.clean_updates=12"], False),
        (["train.batch_size=2"], True),
        (["train.clean_updates=0", "objective.alpha=0", "objective.gamma=0"], False),
        (["train.clean_updates=0", "attack.kind=fgsm", "attack.eval_mode=false"], False),
    ],
)
def test_batch_norm_needs_two_values(inside, overrides, right):
    """The last feature map of these images is one pixel."""
    images = pictures.pictures(8, 5)
    small = images.images[:, 2:6, 2:6]
    for name in ("tiny", "tiny_dev"):
        pictures.write(
            inside / f"data/{name}.npz", pictures.Images(small, images.labels, images.numbers, images.classes)
        )
    # The statistics are those of other images, which does not matter here.
    (inside / "data/tiny.json").write_text((inside / "data/statistics.json").read_text())
    sets = [
        "train_set=data/tiny.npz",
        "dev_set=data/tiny_dev.npz",
        "statistics=data/tiny.json",
        "crops=0",
        "train.batch_size=1",
        *overrides,
    ]
    config = settings("irl_loss", *sets)
    if right:
        VisionTask(config)
    else:
        with pytest.raises(UserError, match="images of 4x4 leave one value in each channel for batch norm"):
            VisionTask(config)


def test_a_run_that_diverges_ends_with_a_checkpoint(folder):
    overrides = ["train.learning_rate=1e12", "train.clean_updates=0", "train.warmup_updates=0", "train.updates=6"]
    run("irl.bin.train", "irl_loss.yaml", *overrides, "--exp", "exp/diverged", cwd=folder)
    assert checkpoint.load(folder / "exp/diverged/checkpoint.pt")["step"] == 6
    text = (folder / "exp/diverged/metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text


def test_the_data_are_tried_before_training(folder):
    line = ["irl.bin.prepare", "irl_batching.yaml"]
    run(*line, "--methods", "irl_loss", "semi", cwd=folder)
    for method, overrides, message in (
        ("semi", ["labels=48"], "labels 48 asks for 12 of each class, but class 0 has 11 images"),
        ("irl_loss", ["train.batch_size=64"], "train.batch_size 64 exceeds the 44 labelled images"),
        ("irl_loss", ["train.accumulate=6"], "accumulate 6 exceeds the 5 batches there are"),
    ):
        done = run(*line, *overrides, "--methods", method, cwd=folder, check=False)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_conditions_are_tried_before_training(folder):
    two = pictures.pictures(8, 5)
    keep = two.labels < 2
    pictures.write(
        folder / "data/two.npz", pictures.Images(two.images[keep], two.labels[keep], two.numbers[keep], ["a", "b"])
    )
    line = ["irl.bin.validate", "vision", "data/two.npz"]
    run(*line, "--conditions", "none", "fgsm_0.1", cwd=folder)
    bad = run(*line, "--conditions", "apgd_dlr_0.1", cwd=folder, check=False)
    assert bad.returncode == 1 and "apgd_dlr_0.1: the DLR loss needs 3 classes, found 2: a, b" in bad.stderr
    bad = run(*line, "--corruptions", "nowhere", cwd=folder, check=False)
    assert bad.returncode == 1 and "nowhere: no corruption (NAME.npy) is there" in bad.stderr


def test_a_skipped_update_leaves_running_statistics_alone(folder, monkeypatch):
    from irl.training.trainer import Trainer

    monkeypatch.chdir(folder)
    trainer = Trainer(settings("irl_batching"), folder / "exp/skipped")
    before = {name: value.clone() for name, value in trainer.raw_module.state_dict().items()}
    batch = trainer.task.train.make(0, BatchSpec(0, True, 1))
    assert not trainer.update([batch._replace(clean=batch.clean * torch.inf)])
    assert all(torch.equal(value, before[name]) for name, value in trainer.raw_module.state_dict().items())
    assert trainer.update([batch])


def test_sets_that_do_not_fit_are_refused(folder):
    other = pictures.pictures(8, 5, size=10)
    pictures.write(folder / "data/large.npz", other)
    done = run("irl.bin.prepare", "irl_batching.yaml", "--check", "data/large.npz", cwd=folder, check=False)
    assert done.returncode == 1 and "data/large.npz: images of size (10, 10), data/train.npz has (8, 8)" in done.stderr


def test_validate_counts_classes_and_images_seen_before(folder):
    out = run(
        "irl.bin.validate", "vision", "data/train.npz", "data/dev.npz", "data/train.npz", cwd=folder
    ).stdout.splitlines()
    assert out[0] == "data/train.npz: 44 images of 8x8, 4 classes of 11 to 11 images, 0 images of the sets before it"
    assert out[1].endswith(" 0 images of the sets before it") and out[2].endswith(" 44 images of the sets before it")


def test_dropout_of_a_step_is_a_function_of_seed_and_step(inside):
    task = VisionTask(settings("irl_loss"))
    batch = task.train.make(0, BatchSpec(0, True, 1))
    losses = []
    for step in (5, 6, 5):
        seed_step(1, step)
        losses.append(float(task.module(batch, "clean", step).total.detach()))
    assert losses[0] == losses[2] != losses[1]


def test_metrics_are_json(folder):
    run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/lines", cwd=folder)
    lines = (folder / "exp/lines/metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["step"] <= 12 for line in lines)
