import csv
import json
import sys
import types

import numpy as np
import pictures
import pytest
import torch
from needs import needs
from tiny import run

from irl.core.fingerprint import record_inputs
from irl.data.images import read
from irl.noise.corruptions import SEVERITIES
from irl.reporting import results
from irl.vision import modality
from irl.vision.classifier import Classifier

needs("lightning_fabric")
TEST = ["--data", "data/test.npz", "--settings", "evaluation.yaml", "--corruptions", "data/corrupted"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe with two trained models and two corruptions: the images themselves, and all black."""
    folder = pictures.build_recipe(tmp_path_factory.mktemp("classifier"))
    for name in ("irl_batching", "adversarial"):
        run("irl.bin.train", f"{name}.yaml", "train.updates=40", "--exp", f"exp/{name}.1", cwd=folder)
    data = read(folder / "data/test.npz")
    (folder / "data/corrupted").mkdir()
    np.save(folder / "data/corrupted/nothing.npy", np.tile(data.images, (SEVERITIES, 1, 1, 1)))
    np.save(folder / "data/corrupted/black.npy", np.zeros((100, 8, 8, 3), np.uint8))
    np.save(folder / "data/corrupted/labels.npy", data.labels)
    return folder


def evaluate(folder, *args, run_name="irl_batching.1", check=True):
    where = [f"exp/{run_name}/checkpoint.pt", *TEST, "--out", f"exp/{run_name}/evaluate"]
    return run("irl.bin.evaluate", *where, *args, cwd=folder, check=check)


def counts(folder, condition, run_name="irl_batching.1"):
    found = json.loads((folder / f"exp/{run_name}/evaluate/test/{condition}.json").read_text())
    return results.counts(found["errors"]), results.counts(found["reference"])


def test_conditions(folder):
    names = ["none", "in", "out", "fgsm_0.1", "pgd3_0.1", "apgd_ce_0.1", "apgd_dlr_0.1", "random_0.1", "corruption"]
    evaluate(folder, "--conditions", *names)
    classifier, data = Classifier(folder / "exp/irl_batching.1/checkpoint.pt"), read(folder / "data/test.npz")
    x = torch.from_numpy(data.images).movedim(3, 1).float()
    with torch.no_grad():
        wrong = (classifier.outputs(x).logits.argmax(1).numpy() != data.labels).astype(float)
        black = (classifier.outputs(0 * x).logits.argmax(1).numpy() != data.labels).astype(float)
    errors, reference = counts(folder, "none")
    assert (errors == wrong).all() and (reference == 1).all()
    errors, reference = counts(folder, "corruption")
    assert (errors == np.where(np.arange(20) < 10, 5 * wrong + 5 * black, 0)).all()
    assert reference.tolist() == [10] * 10 + [0] * 10
    # By corruption and severity, as RobustBench lists accuracies.
    expected = {"black": [int(black[:10].sum())] * 5, "nothing": [int(wrong[:10].sum())] * 5}
    assert json.loads((folder / "exp/irl_batching.1/evaluate/test/corruption.json").read_text())["kinds"] == expected
    with open(folder / "exp/irl_batching.1/evaluate/test/unaggregated_results.csv", newline="") as file:
        kinds, severities, (name, *accuracies) = csv.reader(file)
    assert name == "irl_batching.1" and severities == ["", *"12345" * 2]
    assert kinds == ["", *["black"] * 5, *["nothing"] * 5]
    for kind, severity, accuracy in zip(kinds[1:], severities[1:], accuracies):
        assert float(accuracy) == pytest.approx(1 - expected[kind][int(severity) - 1] / 10)
    for name in names[3:]:
        assert counts(folder, name)[1].astype(bool).sum() == (20 if name.startswith(("fgsm", "random")) else 10)
    assert counts(folder, "fgsm_0.1")[0].sum() >= wrong.sum()


def test_what_is_there_is_not_evaluated_again_unless_it_differs(folder):
    evaluate(folder, "--conditions", "none", "in")
    again = evaluate(folder, "--conditions", "none", "in").stderr
    assert again.count("already evaluated in this way") == 2
    other = evaluate(folder, "--conditions", "none", "in", "--test", "jitter=0.9").stderr
    assert "already" not in other
    evaluate(folder, "--conditions", "none", "in")


def test_batches_and_their_size_change_nothing(folder):
    evaluate(folder, "--conditions", "out", "--batch-size", "20")
    whole = counts(folder, "out")[0]
    (folder / "exp/irl_batching.1/evaluate/test/out.json").unlink()
    evaluate(folder, "--conditions", "out", "--batch-size", "3")
    assert (counts(folder, "out")[0] == whole).all()


def score(folder, conditions, file):
    """Evaluate and score both models into a results file."""
    for name in ("irl_batching.1", "adversarial.1"):
        evaluate(folder, "--conditions", *conditions, run_name=name)
        method = name.partition(".")[0]
        run("irl.bin.score", f"exp/{name}", "--corpus", "p", "--method", method, "--results", file,
            "--data", "data/test.npz", "--conditions", *conditions, cwd=folder)  # fmt: skip


def test_scores_table_and_masking(folder):
    score(folder, ["none", "in", "fgsm_0.1", "pgd3_0.1", "random_0.1"], "r.jsonl")
    lines = results.read(folder / "r.jsonl")
    assert [line["method"] for line in lines] == ["irl_batching", "adversarial"]
    assert lines[0]["decode"]["jitter"] == 0.5 and lines[0]["dev"]["error/clean"] >= 0
    out = run("irl.bin.report", "r.jsonl", "--corpus", "p", "--out", "report", cwd=folder).stdout
    assert "Test error in %, with 95 % bootstrap intervals over images" in out and "| FGSM 0.1 | PGD-3 0.1 |" in out
    assert "20 images a condition, 10 under PGD-3 0.1" in out and "Gradient masking" in out
    assert (folder / "report/table.svg").exists()
    # A model that FGSM cannot fool and PGD can is marked.
    line = lines[1]
    line["conditions"]["fgsm_0.1"]["errors"] = results.pack(np.zeros(20, int))
    line["conditions"]["pgd3_0.1"]["errors"] = line["conditions"]["pgd3_0.1"]["reference"]
    results.append(folder / "r.jsonl", line, modality)
    out = run("irl.bin.report", "r.jsonl", "--corpus", "p", "--out", "report", cwd=folder).stdout
    assert "| 0.0 | 100.0 | masked |" in out


def test_the_table_tells_corruptions_apart(folder):
    score(folder, ["none", "corruption"], "kinds.jsonl")
    lines = results.read(folder / "kinds.jsonl")
    rates = [[10 * np.mean(line["conditions"]["corruption"]["kinds"][kind]) for kind in ("black", "nothing")]
             for line in lines]  # fmt: skip
    cells = [f"| {black:.1f} | {nothing:.1f} | {(black + nothing) / 2:.1f} |" for black, nothing in rates]
    out = run("irl.bin.report", "kinds.jsonl", "--corpus", "p", "--out", "kinds", cwd=folder).stdout
    assert "| method | black | nothing | mCE |" in out and all(cell in out for cell in cells)
    # Where the first run has not met them, the table has none.
    only = {**lines[0], "conditions": {"none": lines[0]["conditions"]["none"]}}
    for line in (only, lines[1]):
        results.append(folder / "part.jsonl", line, modality)
    assert "mCE" not in run("irl.bin.report", "part.jsonl", "--corpus", "p", "--out", "kinds", cwd=folder).stdout
    # A run of an earlier version does not.
    del lines[0]["conditions"]["corruption"]["kinds"]
    results.append(folder / "old.jsonl", lines[0], modality)
    assert "mCE" not in run("irl.bin.report", "old.jsonl", "--corpus", "p", "--out", "kinds", cwd=folder).stdout


def test_missing_runs(folder):
    (folder / "conf").mkdir()
    for name in ("irl_batching", "adversarial"):
        (folder / "conf" / f"{name}.yaml").write_text((folder / f"{name}.yaml").read_text())
    score(folder, ["none", "in"], "planned.jsonl")
    arguments = ["conf", "train.updates=40", "--results", "planned.jsonl", "--corpus", "p", "--methods", "irl_batching",
                 "adversarial", "--seeds", "1", "2", "--settings", "evaluation.yaml", "--data", "data/test.npz",
                 "--out", "missing"]  # fmt: skip
    out = run("irl.bin.plan", *arguments, "--conditions", "none", "in", cwd=folder).stdout
    assert "runs without a result in planned.jsonl: 2" in out
    out = run("irl.bin.plan", *arguments, "--conditions", "none", "out", cwd=folder).stdout
    assert "planned.jsonl: 4" in out
    out = run("irl.bin.plan", *arguments, "--conditions", "none", "--test", "hue=0.1", cwd=folder).stdout
    assert "planned.jsonl: 4" in out


def test_analysis(folder):
    runs = ["exp/irl_batching.1", "exp/adversarial.1", "exp/gone.1"]
    analyse = ["irl.bin.analyse", *runs, "--clean", "data/test.npz", "--settings", "evaluation.yaml", "--out", "report"]
    out = run(*analyse, "--noisy", "in", cwd=folder).stdout
    assert "exp/gone.1: no checkpoint, left out" in out
    rows = [row.split(",") for row in (folder / "report/distances.csv").read_text().splitlines()]
    assert rows[0][:4] == ["run", "layer", "l2", "cosine"] and len(rows) == 7
    values = np.array([[float(x) for x in row[2:]] for row in rows[1:]])
    assert (values > 0).all() and (values[:, 0] < values[:, 3]).all()
    still = run(*analyse, "--noisy", "none", cwd=folder)
    assert "mean cosine distance over layers" in still.stdout
    rows = [row.split(",") for row in (folder / "report/distances.csv").read_text().splitlines()]
    assert all(float(row[2]) == 0 and abs(float(row[3])) < 1e-6 for row in rows[1:])
    wrong = run(*analyse, "--noisy", "fog", cwd=folder, check=False)
    assert wrong.returncode == 1 and "'fog' is not a colour noise, known are none, in, out" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conditions", "fog"], "unknown condition 'fog', known are none, in, out, corruption and ATTACK_EPS"),
        (["--conditions", "none", "--test", "hue=3"], "hue: expected float in [0, 1], found 3"),
        (["--conditions", "corruption", "--test", "corruptions=nowhere"], "nowhere: no corruption (NAME.npy) is there"),
        (
            ["--conditions", "autoattack_9", "--test", "units=pixels"],
            "autoattack_9: the package autoattack is not installed",
        ),
        (["--conditions", "autoattack_8"], "autoattack_8: AutoAttack measures eps on pixels: set units: pixels"),
        (["--conditions", "none", "pgd0_0.2"], "unknown condition 'pgd0_0.2'"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "autoattack", None)
    done = evaluate(folder, *arguments, check=False)
    error = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and error.startswith("error: ") and message in error


def test_autoattack_is_used_where_it_is(folder, monkeypatch):
    seen = {}

    class AutoAttack:
        def __init__(self, forward, norm, eps, device, seed, verbose):
            seen.update(norm=norm, eps=eps, forward=forward, seed=seed)

        def run_standard_evaluation(self, x, y, bs):
            assert 0 <= x.min() and x.max() <= 1 and bs == len(x)
            seen["logits"] = self.forward = seen["forward"](x)
            return 1 - x

    monkeypatch.setitem(sys.modules, "autoattack", types.SimpleNamespace(AutoAttack=AutoAttack))
    evaluate(folder, "--conditions", "autoattack_8", "--test", "units=pixels")
    assert seen["norm"] == "Linf" and seen["eps"] == pytest.approx(8 / 255)
    data = read(folder / "data/test.npz")
    x = torch.from_numpy(data.images[:10]).movedim(3, 1).float()
    classifier = Classifier(folder / "exp/irl_batching.1/checkpoint.pt")
    with torch.no_grad():
        torch.testing.assert_close(seen["logits"], classifier.outputs(x).logits, rtol=1e-4, atol=1e-4)
        expected = classifier.outputs(255 - x).logits.argmax(1).numpy() != data.labels[:10]
    assert (counts(folder, "autoattack_8")[0][:10] == expected).all() and seen["seed"] == 0
    # In both norms eps is on the scale 0-255, as for the other attacks.
    evaluate(folder, "--conditions", "autoattack_100", "--test", "units=pixels", "norm=l2")
    assert seen["norm"] == "L2" and seen["eps"] == pytest.approx(100 / 255)


def test_other_checkpoints_are_refused(folder, recipe):
    run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/for_vision", "--stop", "1", cwd=recipe)
    out = run("irl.bin.evaluate", recipe / "exp/for_vision/checkpoint.pt", *TEST, "--out", "x", "--conditions", "none",
              cwd=folder, check=False)  # fmt: skip
    assert out.returncode == 2 and "unrecognized arguments" in out.stderr


def test_statistics_and_corruptions_of_other_images_are_refused(folder):
    path = folder / "data/corrupted"
    record_inputs(path, test_set=read(folder / "data/test.npz").digest())
    evaluate(folder, "--conditions", "corruption")
    record_inputs(path, test_set="another")
    done = evaluate(folder, "--conditions", "corruption", check=False)
    assert "corrupted: was made from another test_set than there is now; run stage 2 again" in done.stderr
    (folder / "data/corrupted.inputs.json").unlink()
    line = ["irl_batching.yaml", "train.updates=40", "train_set=data/dev.npz", "--exp", "exp/other"]
    done = run("irl.bin.train", *line, cwd=folder, check=False)
    assert "statistics.json: was made from another train_set than there is now; run stage 3 again" in done.stderr
