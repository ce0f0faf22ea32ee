"""The loop on a tiny corpus of tones: real commands, real files."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from needs import needs
from tiny import metrics, run, same_weights

from irl.core.errors import UserError
from irl.training import checkpoint
from irl.training.config import TrainConfig
from irl.training.registry import read_config
from irl.training.trainer import Trainer

needs("lightning_fabric")


def test_terms_are_logged_by_name_and_training_learns(recipe, reference):
    lines = metrics(recipe / "exp/reference/metrics.jsonl")
    assert reference["step"] == 24 and reference["skipped"] == 0
    clean, paired = lines[1], lines[-2]
    assert clean["noisy"] == 0 and clean["dist"] == 0
    layers = [f"dist/{part}.{i}" for part in ("encoder", "decoder") for i in range(2)]
    assert all(paired[layer] > 0 for layer in layers) and paired["noisy"] > 0
    assert lines[-2]["clean"] < lines[0]["clean"] < 4
    assert {
        "dev/loss/clean",
        "dev/cer_ctc/noisy",
        "dev/cosine/encoder.0",
        "dev/norm/decoder.1",
        "dev/rank/encoder.1",
    } <= lines[-1].keys()
    assert list((recipe / "exp/reference/tensorboard").iterdir())


def test_gamma_zero_is_irl_batching_to_the_bit(recipe):
    run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/batching", cwd=recipe)
    run("irl.bin.train", "irl_loss.yaml", "objective.gamma=0", "--exp", "exp/gamma0", cwd=recipe)
    a, b = (checkpoint.load(recipe / "exp" / name / "checkpoint.pt") for name in ("batching", "gamma0"))
    assert same_weights(a, b)


def test_gradient_accumulation_and_copies_run(recipe):
    options = [
        "train.accumulate=2",
        "train.batch_size=2",
        "objective.copies=2",
        "train.updates=4",
        "train.clean_updates=1",
    ]
    run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/accumulate", cwd=recipe)
    state = checkpoint.load(recipe / "exp/accumulate/checkpoint.pt")
    assert state["step"] == 4 and state["batch"] == 8


def test_bfloat16(recipe):
    run(
        "irl.bin.train",
        "irl_loss.yaml",
        "train.precision=bf16-mixed",
        "train.accelerator=cpu",
        "train.updates=10",
        "--exp",
        "exp/bf16",
        cwd=recipe,
    )
    last = metrics(recipe / "exp/bf16/metrics.jsonl")[-2]
    assert last["dist"] > 0 and last["total"] < 5
    found = checkpoint.load(recipe / "exp/bf16/checkpoint.pt")
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in found["model"].values())
    assert found["device"] == "cpu, bf16-mixed"


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("capable", [True, False])
def test_precision_auto_is_what_the_processor_computes_in(recipe, monkeypatch, capable):
    """The same weights to the bit as with the precision by name, and the device says which it was."""
    monkeypatch.chdir(recipe)

    def trainer(precision, exp, capable=capable):
        monkeypatch.setattr("irl.training.distributed.computes_bf16", lambda device_type: capable)
        options = ["train.updates=3", "train.clean_updates=1", "train.accelerator=cpu", f"train.precision={precision}"]
        with torch.backends.mkldnn.flags(enabled=True):  # bfloat16 turns it off where it does not know it
            return Trainer(read_config(Path("irl_loss.yaml"), options), Path(exp))

    states = []
    for precision in ("auto", "bf16-mixed" if capable else "32-true"):
        exp = f"exp/{capable}-{precision}"
        trainer(precision, exp).run(3)
        states.append(checkpoint.load(Path(exp) / "checkpoint.pt"))
    auto, named = states
    assert all(torch.equal(x, named["model"][name]) for name, x in auto["model"].items())
    assert auto["device"] == named["device"] == ("cpu, bf16-mixed" if capable else "cpu")
    # A run does not change its precision on its way.
    trainer("auto", f"exp/{capable}-auto").state.resume()
    with pytest.raises(UserError, match="train.precision auto was"):
        trainer("auto", f"exp/{capable}-auto", capable=not capable).state.resume()


def test_non_finite_updates_are_skipped_and_many_stop_the_run(recipe):
    done = run(
        "irl.bin.train",
        "irl_batching.yaml",
        "train.learning_rate=1e30",
        "train.max_bad_steps=3",
        "--exp",
        "exp/nan",
        cwd=recipe,
        check=False,
    )
    assert done.returncode == 1 and "not finite in 3 updates in a row" in done.stderr
    batches = torch.load(recipe / "exp/nan/bad_batch.pt", weights_only=False)
    assert batches[0].ids and batches[0].y.dim() == 2


def test_specaugment_masks_features_of_the_copy_alone(recipe, monkeypatch):
    from irl.speech.task import SpeechTask
    from irl.training.task import BatchSpec

    monkeypatch.chdir(recipe)
    config = read_config(Path("irl_loss.yaml"), ["noise.kinds=[specaugment]", "noise.musan="])
    data = SpeechTask(config).train
    batch = data.make(1, BatchSpec(0, True, 1))
    clean, noisy = batch.clean["x"], batch.noisy[0]["x"]
    assert torch.equal(batch.clean["x_lens"], batch.noisy[0]["x_lens"])
    changed = clean != noisy
    assert 0.02 < changed.float().mean() < 0.9
    # A mel channel is masked in both frames of a stack or in neither.
    whole = changed.view(*changed.shape[:2], 2, 10).all(1)
    assert torch.equal(whole[:, 0], whole[:, 1])
    again = data.make(1, BatchSpec(0, True, 1)).noisy[0]["x"]
    assert torch.equal(again, noisy) and not torch.equal(data.make(2, BatchSpec(0, True, 1)).noisy[0]["x"], noisy)


def test_augmentation_is_drawn_once_for_all_views_and_for_training_alone(recipe, monkeypatch):
    from irl.core.rng import Keys
    from irl.data.kaldi import read_wave
    from irl.speech.task import SpeechTask
    from irl.training.task import BatchSpec

    monkeypatch.chdir(recipe)
    plain = SpeechTask(read_config(Path("irl_loss.yaml"), ["noise.kinds=[volume]"]))
    changes = ["noise.kinds=[volume]", "augment.specaugment=true", "augment.speeds=[0.9, 1.0, 1.1]"]
    changes += ["augment.warps=[0.8, 1.25]"]
    task = SpeechTask(read_config(Path("irl_loss.yaml"), changes))
    waves = {u.id: n for u, n in zip(task.train.utterances, task.train.batches.lengths)}
    frames = plain.train.features.config.frames
    gained = SpeechTask(read_config(Path("irl_loss.yaml"), ["noise.kinds=[tel]", "augment.gains=[0.125, 2]"]))
    louder, plain_views = gained.train.make(1, BatchSpec(0, True, 0)), plain.train.make(1, BatchSpec(0, True, 0))
    shifts = [
        (a - b)[:n].median() for a, b, n in zip(louder.clean["x"], plain_views.clean["x"], louder.clean["x_lens"])
    ]
    assert all(2 * math.log(0.125) < float(s) < 2 * math.log(2) for s in shifts) and len(set(map(float, shifts))) > 1
    voices = SpeechTask(read_config(Path("irl_loss.yaml"), ["noise.kinds=[volume]", "augment.warps=[0.8, 1.25]"])).train
    other, factors = voices.make(1, BatchSpec(0, True, 0)), set()
    for key, x, n in zip(other.ids, other.clean["x"], other.clean["x_lens"]):
        factor = Keys([key], voices.config.seed, "augment/warp", 1).uniform(1, 0.8, 1.25).item()
        utterance = next(u for u in voices.utterances if u.id == key)
        wave = torch.from_numpy(read_wave(utterance, voices.config.features.rate))
        assert torch.equal(x[:n], voices.features(wave, factor))
        factors.add(factor)
    assert max(factors) - min(factors) > 0.05
    speeds, masked = set(), 0
    for index in range(len(task.train.batches[1])):
        batch = task.train.make(1, BatchSpec(index, True, 2))
        lens = batch.clean["x_lens"].tolist()
        for key, n in zip(batch.ids, lens):
            possible = {s for s in (0.9, 1.0, 1.1) if n == frames(math.ceil(waves[key] / s))}
            assert possible
            speeds |= possible if len(possible) == 1 else set()
        for view in batch.noisy:
            assert view["x_lens"].tolist() == lens
            # A volume moves every log-mel value by the same amount, and masked values, means over frames, with it;
            # views whose masks differed would differ by more than that.
            for clean, noisy, n in zip(batch.clean["x"], view["x"], lens):
                shift = (noisy - clean)[:n]
                assert shift.std() < 0.05 and shift.abs().max() > 0.01
        # A mask over frames makes them equal.
        masked += sum(len(x[:n].unique(dim=0)) < n for x, n in zip(batch.clean["x"], lens))
    assert len(speeds) > 1 and masked
    dev, plain_dev = task.dev.make(1, BatchSpec(0, True, 1)), plain.dev.make(1, BatchSpec(0, True, 1))
    assert torch.equal(dev.clean["x"], plain_dev.clean["x"]) and torch.equal(dev.noisy[0]["x"], plain_dev.noisy[0]["x"])


def test_an_error_in_a_worker_ends_the_training(recipe):
    script = (
        "import sys; from irl.speech.data import SpeechData; from irl.bin import train\n"
        "def fail(*_): raise RuntimeError('as a mistake in the code would')\n"
        "SpeechData.make = fail\n"
        "sys.argv[1:] = ['irl_loss.yaml', '--exp', 'exp/failed', 'train.workers=1']; train.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=recipe, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "as a mistake in the code would" in done.stderr


def test_label_smoothing_is_a_mixture_with_the_uniform_distribution():
    from irl.core.output import Output
    from irl.speech.task import task_loss

    logits, y = torch.randn(3, 5, 7, dtype=torch.float64), torch.randint(7, (3, 5))
    y_lens = torch.tensor([5, 2, 4])
    y = torch.where(torch.arange(5) < y_lens[:, None], y, -1)
    found = task_loss(Output(logits, {}), y, y_lens, ctc_weight=0.0, label_smoothing=0.1)
    total = 0.0
    for row, targets, n in zip(logits.log_softmax(-1), y, y_lens.tolist()):
        for log_p, target in zip(row[:n], targets[:n]):
            total -= 0.9 * float(log_p[target]) + 0.1 * float(log_p.mean())
    assert float(found) == pytest.approx(total / 11, rel=1e-12)


def test_best_weights_are_averaged_and_decoded_with(recipe):
    options = ["train.average=2", "train.eval_every=4", "objective.beta=0.25"]
    run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/average", "--stop", 18, cwd=recipe)
    # A file that the checkpoint does not name is one of updates that will be made again.
    (recipe / "exp/average/best/99.pt").write_bytes(b"")
    run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/average", cwd=recipe)
    run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/average_whole", cwd=recipe)
    exp = recipe / "exp/average"
    state, whole = (checkpoint.load(recipe / e / "checkpoint.pt") for e in ("exp/average", "exp/average_whole"))
    assert same_weights(state, whole)
    assert all(torch.equal(state["averaged"][name], whole["averaged"][name]) for name in whole["averaged"])
    lines = [line for line in metrics(exp / "metrics.jsonl") if "dev/loss/clean" in line]
    # Evaluations at 4 and 8 are in the clean phase, that at 18 is where the run stopped; the last line is of the mean.
    losses = {
        r["step"]: 0.5 * r["dev/loss/clean"] + 0.25 * r["dev/loss/noisy"]
        for r in lines[:-1]
        if r["step"] in (12, 16, 20, 24)
    }
    best = sorted(losses, key=losses.get)[:2]
    assert sorted(state["best"]) == sorted(best)
    # Those that the checkpoint before names are kept for it.
    kept = {*best, *checkpoint.load(checkpoint.previous(exp / "checkpoint.pt"))["best"]}
    assert sorted(p.stem for p in (exp / "best").iterdir()) == sorted(map(str, kept))
    weights = [checkpoint.load(exp / "best" / f"{step}.pt")["model"] for step in best]
    for name, mean in state["averaged"].items():
        assert torch.allclose(mean, (weights[0][name] + weights[1][name]) / 2, atol=1e-7)
    from irl.speech.recogniser import Recogniser

    recogniser = Recogniser(exp / "checkpoint.pt")
    assert torch.equal(recogniser.model.ctc.weight, state["averaged"]["model.ctc.weight"])


def test_float16_with_its_loss_scaler_resumes_to_the_bit(recipe):
    options = ["train.precision=16-mixed", "train.accelerator=cpu", "train.updates=16", "train.max_bad_steps=17"]
    # Training so on a CPU switches oneDNN off; here it is switched on again for the other tests.
    with torch.backends.mkldnn.flags(enabled=True):
        run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/fp16", cwd=recipe)
        run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/fp16b", "--stop", 9, cwd=recipe)
        half = checkpoint.load(recipe / "exp/fp16b/checkpoint.pt")
        assert half["precision"]["_growth_tracker"] > 0
        run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/fp16b", cwd=recipe)
    a, b = (checkpoint.load(recipe / "exp" / name / "checkpoint.pt") for name in ("fp16", "fp16b"))
    assert same_weights(a, b) and a["precision"] == b["precision"] and a["skipped"] < 8
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in a["model"].values())


def test_adadelta_is_espnets(recipe):
    options = ["train.optimizer=adadelta", "train.learning_rate=1.0", "train.updates=6", "train.clean_updates=2"]
    run("irl.bin.train", "irl_loss.yaml", *options, "--exp", "exp/adadelta", cwd=recipe)
    group = checkpoint.load(recipe / "exp/adadelta/checkpoint.pt")["optimizer"]["param_groups"][0]
    assert (group["rho"], group["eps"]) == (0.95, 1e-8)


def test_schedules():
    steps = TrainConfig(updates=200, decay="steps", milestones=(60, 120, 160), warmup_updates=0, learning_rate=0.1)
    rates = [steps.lr_at(s) for s in (0, 59, 60, 119, 120, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.0008, 0.0008])
    cosine = TrainConfig(updates=100, decay="cosine", warmup_updates=10, learning_rate=1.0)
    assert [cosine.lr_at(s) for s in (0, 4, 50, 75)] == pytest.approx([0.1, 0.5, 0.5, 0.1464466])
