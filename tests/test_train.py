"""The loop on a tiny corpus of tones: resuming, workers, clean phase, refusals. Real commands, real files."""

import contextlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch

from irl import checkpoint, command
from irl.data.kaldi import Utterance, write_data_dir
from irl.errors import UserError

pytest.importorskip("lightning_fabric")
ROOT = Path(__file__).parent.parent
RATE = 8000
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

CONFIG = """
train_dir: data/train
dev_dir: data/dev
vocabulary: data/lang/tokens.txt
statistics: data/lang/statistics.json
features: {rate: 8000, mels: 10, stack: 2}
model: {encoder_layers: 2, encoder_units: 8, subsampling: [1, 1], decoder_layers: 2, decoder_units: 8,
        embedding_units: 4, attention: additive, attention_units: 8, dropout: 0.2}
noise: {musan: data/bank, kinds: [additive, volume]}
objective: {alpha: 0.5, beta: 0.5, gamma: 0.0}
train: {updates: 24, clean_updates: 8, batch_size: 4, warmup_updates: 5, threads: 1, save_every: 7, log_every: 3}
"""
LOSS = "base: irl_batching.yaml\nobjective: {alpha: 0.5, beta: 0.5, gamma: 1.0, warmup: 4}\n"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(module, *args, cwd, check=True):
    """A command as `python -m module args` runs it, but in this process: importing takes longer than most of them."""
    out, err = io.StringIO(), io.StringIO()
    before, argv, status = os.getcwd(), sys.argv, 0
    sys.argv = [module, *map(str, args)]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command.run_command(importlib.import_module(module).main)
    except SystemExit as end:
        if isinstance(end.code, str):
            err.write(end.code + "\n")
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os.chdir(before)
        sys.argv = argv
    assert status == 0 or not check, err.getvalue()
    return Done(status, out.getvalue(), err.getvalue())


def speech(text, rng):
    """Each letter is a tone of 60 ms."""
    t = np.arange(int(0.06 * RATE)) / RATE
    pieces = [0.2 * np.sin(2 * np.pi * (400 + 150 * " abcd".index(c)) * t) for c in text]
    return np.concatenate(pieces) + 0.01 * rng.normal(size=len(text) * len(t))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe directory with data, a bank, configurations and stage 3 done."""
    folder = tmp_path_factory.mktemp("recipe")
    rng = np.random.default_rng(0)
    for name, size in (("train", 22), ("dev", 5)):
        rows = []
        for i in range(size):
            text = "".join(rng.choice(list("abcd"), size=rng.integers(2, 7)))
            path = folder / "wav" / f"{name}{i:02d}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, speech(text, rng), RATE)
            rows.append(Utterance(f"spk{i % 2}-{name}{i:02d}", str(path), f"spk{i % 2}", text))
        write_data_dir(folder / "data" / name, rows)
    for category in ("noise", "music"):
        for i in range(3):
            path = folder / "data" / "bank" / category / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.normal(size=6000), RATE)
    (folder / "irl_batching.yaml").write_text(CONFIG)
    (folder / "irl_loss.yaml").write_text(LOSS)
    run("irl.validate", "--rate", RATE, "data/train", "data/dev", cwd=folder)
    run("irl.prepare", "irl_batching.yaml", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def reference(recipe):
    """An undisturbed run of the IRL loss."""
    run("irl.train", "irl_loss.yaml", "--exp", "exp/reference", cwd=recipe)
    return checkpoint.load(recipe / "exp/reference/checkpoint.pt")


def same_weights(a, b):
    assert a["model"].keys() == b["model"].keys()
    return all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"]) and all(
        torch.equal(x, y)
        for i in a["optimizer"]["state"]
        for x, y in zip(a["optimizer"]["state"][i].values(), b["optimizer"]["state"][i].values())
    )


def metrics(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_specaugment_masks_features_of_the_copy_alone(recipe, monkeypatch):
    from irl.tasks.base import Plan
    from irl.tasks.speech import SpeechTask
    from irl.train import read_config

    monkeypatch.chdir(recipe)
    config = read_config(Path("irl_loss.yaml"), ["noise.kinds=[specaugment]", "noise.musan="])
    data = SpeechTask(config).train
    batch = data.make(1, Plan(0, True, 1))
    clean, noisy = batch.clean["x"], batch.noisy[0]["x"]
    assert torch.equal(batch.clean["x_lens"], batch.noisy[0]["x_lens"])
    changed = clean != noisy
    assert 0.02 < changed.float().mean() < 0.9
    # A mel channel is masked in both frames of a stack or in neither.
    whole = changed.view(*changed.shape[:2], 2, 10).all(1)
    assert torch.equal(whole[:, 0], whole[:, 1])
    again = data.make(1, Plan(0, True, 1)).noisy[0]["x"]
    assert torch.equal(again, noisy) and not torch.equal(data.make(2, Plan(0, True, 1)).noisy[0]["x"], noisy)


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


def test_twice_and_with_two_workers_to_the_bit(recipe, reference):
    run("irl.train", "irl_loss.yaml", "train.workers=2", "--exp", "exp/workers", cwd=recipe)
    assert same_weights(reference, checkpoint.load(recipe / "exp/workers/checkpoint.pt"))
    assert metrics(recipe / "exp/workers/metrics.jsonl") == metrics(recipe / "exp/reference/metrics.jsonl")


@pytest.mark.parametrize("stop", [3, 10])
def test_resumed_to_the_bit(recipe, reference, stop):
    exp = f"exp/stopped{stop}"
    run("irl.train", "irl_loss.yaml", "--exp", exp, "--stop", stop, cwd=recipe)
    assert checkpoint.load(recipe / exp / "checkpoint.pt")["step"] == stop
    run("irl.train", "irl_loss.yaml", "--exp", exp, cwd=recipe)
    assert same_weights(reference, checkpoint.load(recipe / exp / "checkpoint.pt"))


def test_killed_and_resumed_to_the_bit(recipe, reference):
    exp = recipe / "exp/killed"
    line = [sys.executable, "-m", "irl.train", "irl_loss.yaml", "--exp", str(exp)]
    process = subprocess.Popen(line, cwd=recipe, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (exp / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert checkpoint.load(exp / "checkpoint.pt")["step"] < 24
    # The kill may leave half a line of metrics behind the last checkpoint.
    with open(exp / "metrics.jsonl", "a") as file:
        file.write('{"step": 999, "tot')
    run("irl.train", "irl_loss.yaml", "--exp", exp, cwd=recipe)
    assert same_weights(reference, checkpoint.load(exp / "checkpoint.pt"))
    assert metrics(exp / "metrics.jsonl") == metrics(recipe / "exp/reference/metrics.jsonl")


def test_shared_clean_phase_to_the_bit(recipe, reference):
    run("irl.train", "irl_batching.yaml", "--exp", "exp/clean", "--stop", "clean", cwd=recipe)
    run("irl.train", "irl_loss.yaml", "--exp", "exp/branch", "--start", "exp/clean/checkpoint.pt", cwd=recipe)
    assert same_weights(reference, checkpoint.load(recipe / "exp/branch/checkpoint.pt"))
    early = run("irl.train", "irl_batching.yaml", "--exp", "exp/early", "--stop", 3, cwd=recipe)
    assert early.returncode == 0
    wrong = run(
        "irl.train", "irl_loss.yaml", "--exp", "exp/b2", "--start", "exp/early/checkpoint.pt", cwd=recipe, check=False
    )
    assert wrong.returncode == 1 and "is at update 3, but the clean phase of this run ends at 8" in wrong.stderr


def test_gamma_zero_is_irl_batching_to_the_bit(recipe):
    run("irl.train", "irl_batching.yaml", "--exp", "exp/batching", cwd=recipe)
    run("irl.train", "irl_loss.yaml", "objective.gamma=0", "--exp", "exp/gamma0", cwd=recipe)
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
    run("irl.train", "irl_loss.yaml", *options, "--exp", "exp/accumulate", cwd=recipe)
    state = checkpoint.load(recipe / "exp/accumulate/checkpoint.pt")
    assert state["step"] == 4 and state["batch"] == 8


def test_bfloat16(recipe):
    run("irl.train", "irl_loss.yaml", "train.precision=bf16-mixed", "train.updates=10", "--exp", "exp/bf16", cwd=recipe)
    last = metrics(recipe / "exp/bf16/metrics.jsonl")[-2]
    assert last["dist"] > 0 and last["total"] < 5
    weights = checkpoint.load(recipe / "exp/bf16/checkpoint.pt")["model"].values()
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in weights)


def test_an_interrupt_saves_the_step_it_was_in(recipe, reference):
    exp = recipe / "exp/interrupted"
    line = [sys.executable, "-m", "irl.train", "irl_loss.yaml", "train.save_every=100", "--exp", str(exp)]
    process = subprocess.Popen(line, cwd=recipe, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (exp / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130 and "the same command goes on where it stopped" in process.stderr.read()
    assert 0 < checkpoint.load(exp / "checkpoint.pt")["step"] < 24
    run("irl.train", "irl_loss.yaml", "--exp", exp, cwd=recipe)
    assert same_weights(reference, checkpoint.load(exp / "checkpoint.pt"))


def test_another_vocabulary_is_noticed(recipe):
    run("irl.train", "irl_loss.yaml", "--exp", "exp/tokens", "--stop", 2, cwd=recipe)
    tokens = recipe / "data/lang/tokens.txt"
    before = tokens.read_text()
    tokens.write_text(before.replace("a\nb\n", "b\na\n"))
    done = run("irl.train", "irl_loss.yaml", "--exp", "exp/tokens", cwd=recipe, check=False)
    tokens.write_text(before)
    assert done.returncode == 1 and "was trained with other tokens" in done.stderr


def test_errors_of_workers_are_one_line_too(recipe, tmp_path):
    shutil.copytree(recipe / "data/train", tmp_path / "train")
    x, _ = soundfile.read(recipe / "wav/train00.wav")
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(len(x)) == 5, np.nan, x), RATE, subtype="FLOAT")
    scp = (tmp_path / "train/wav.scp").read_text().replace(str(recipe / "wav/train00.wav"), str(tmp_path / "nan.wav"))
    (tmp_path / "train/wav.scp").write_text(scp)
    for workers in (0, 1):
        options = [f"train_dir={tmp_path}/train", f"train.workers={workers}"]
        done = run("irl.train", "irl_loss.yaml", *options, "--exp", tmp_path / f"exp{workers}", cwd=recipe, check=False)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and last.startswith("error: utterance spk0-train00") and "not finite" in last


def test_decode_score_transcribe(recipe, reference):
    run("irl.decode", "exp/reference/checkpoint.pt", "--data", "data/dev", "--out", "exp/dec", "--nbest", 2, cwd=recipe)
    again = run(
        "irl.decode", "exp/reference/checkpoint.pt", "--data", "data/dev", "--out", "exp/dec", "--nbest", 2, cwd=recipe
    )
    assert "already decoded" in again.stderr
    for change in (["--beam", 3], ["--search", "attention"]):
        other = run(
            "irl.decode", "exp/reference/checkpoint.pt", "--data", "data/dev", "--out", "exp/o", *change, cwd=recipe
        )
        assert "already decoded" not in other.stderr
    lines = [json.loads(line) for line in (recipe / "exp/dec/dev/nbest.jsonl").read_text().splitlines()]
    assert len(lines) == 5 and set(lines[0]["nbest"][0]) == {"text", "score", "decoder", "ctc", "length_bonus"}
    out = run(
        "irl.score", "data/dev/text", "exp/dec/dev/text", "--alignments", "exp/a.txt", "--trn", "exp/t", cwd=recipe
    )
    assert out.stdout.startswith("%CER ") and "5 utterances" in out.stdout and (recipe / "exp/t.ref.trn").exists()
    for search in ("attention", "ctc", "espnet"):
        run(
            "irl.decode",
            "exp/reference/checkpoint.pt",
            "--data",
            "data/dev",
            "--out",
            f"exp/{search}",
            "--search",
            search,
            cwd=recipe,
        )
    # ESPnet's search and ours agree.
    assert (recipe / "exp/espnet/dev/text").read_text() == (recipe / "exp/dec/dev/text").read_text()
    stereo = recipe / "stereo.wav"
    x, _ = soundfile.read(recipe / "wav/dev00.wav")
    soundfile.write(stereo, np.stack([np.repeat(x, 2)] * 2, axis=1), 2 * RATE)
    out = run("irl.transcribe", "exp/reference/checkpoint.pt", recipe / "wav/dev00.wav", stereo, cwd=recipe)
    assert [line.split("\t")[0] for line in out.stdout.splitlines()] == [str(recipe / "wav/dev00.wav"), str(stereo)]


BAD = [
    (["train.foo=1"], "command line: unknown key train.foo, known are updates, clean_updates"),
    (["nothing=1"], "command line: unknown key nothing, known are train_dir"),
    (["train.updates=many"], "command line: train.updates: expected int, found 'many'"),
    (["objective.gamma=-1"], "gamma must be finite and not negative, got -1"),
    (["objective.layers={encoder.7: 1.0}"], "unknown layer 'encoder.7', known are encoder.0, encoder.1, decoder.0"),
    (["objective.from_layer=encoder.9"], "unknown layer 'encoder.9', known are encoder.0, encoder.1, decoder.0"),
    (["objective.distance={l3: 1.0}"], "unknown distance 'l3', known are l2"),
    (["noise.musan=data/nothing"], "data/nothing/noise: no audio found"),
    (["train_dir=data/none"], "data/none: no such data directory"),
    (["features.mels=12"], "statistics of 20 features, expected 24"),
    (["task=video"], "task: expected one of speech, found 'video'"),
    (["model.attention=foo"], "model: unknown attention 'foo', known are additive, dot, location"),
    (["model.encoder_units=0"], "encoder_units must be at least 1"),
    (["train.precision=foo"], "precision must be one of 32-true, bf16-mixed"),
    (["train.clip_norm=-5"], "clip_norm must not be negative"),
    (["objective.alpha=null"], "objective.alpha: expected a value, found null"),
    (["objective.pairs=noisy"], "needs at least 2 copies"),
    (["ctc_weight=0"], "ctc_weight is 0"),
    (["features.low_hz=50"], "statistics of other feature settings; run stage 3 again"),
    (["updates"], "command line: expected key=value, found 'updates'"),
    (["model.subsampling=[1]"], "subsampling needs one factor"),
]


@pytest.mark.parametrize("overrides, message", BAD, ids=[o[0] for o, _ in BAD])
def test_bad_configuration_is_one_line_and_status_1(recipe, overrides, message):
    done = run("irl.train", "irl_loss.yaml", *overrides, "--exp", "exp/bad", cwd=recipe, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr


def test_status_and_one_line_of_the_real_command(recipe):
    line = [sys.executable, "-m", "irl.train", "irl_loss.yaml", "--exp", "exp/bad", "train.foo=1"]
    done = subprocess.run(line, cwd=recipe, env=ENV, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_bad_files(recipe, reference, tmp_path):
    def fails(*args, message):
        done = run(*args, cwd=recipe, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and message in last, last

    fails("irl.train", "none.yaml", "--exp", "exp/x", message="none.yaml: no such configuration file")
    (recipe / "bad.yaml").write_text("base: irl_loss.yaml\n")
    fails(
        "irl.train",
        "bad.yaml",
        "--exp",
        "exp/x",
        message="irl_loss.yaml: is the base of bad.yaml and may not have a base",
    )
    (recipe / "bad.yaml").write_text("base: irl_batching.yaml\ntrain: {updates: 3, decay: [\n")
    fails("irl.train", "bad.yaml", "--exp", "exp/x", message="bad.yaml: not valid YAML")
    (recipe / "bad.yaml").write_text("base: irl_batching.yaml\ntrain: {decay: up}\n")
    fails("irl.train", "bad.yaml", "--exp", "exp/x", message="bad.yaml: train: decay must be linear or none, got 'up'")

    path = recipe / "exp/reference/checkpoint.pt"
    cut = tmp_path / "cut.pt"
    cut.write_bytes(path.read_bytes()[:-1000])
    fails("irl.decode", cut, "--data", "data/dev", "--out", tmp_path, message="cut.pt: truncated or damaged")
    state = checkpoint.load(path)
    state["model"].pop("model.ctc.bias")
    checkpoint.save(tmp_path / "other.pt", state)
    fails(
        "irl.decode",
        tmp_path / "other.pt",
        "--data",
        "data/dev",
        "--out",
        tmp_path,
        message="checkpoint of another model: ctc.bias",
    )
    fails(
        "irl.train",
        "irl_loss.yaml",
        "model.encoder_units=9",
        "--exp",
        "exp/reference",
        message="was trained with model.encoder_units 8, this run has 9",
    )
    fails("irl.decode", "none.pt", "--data", "data/dev", "--out", tmp_path, message="none.pt: no such checkpoint")

    strange = tmp_path / "strange"
    rows = [Utterance("u-1", str(recipe / "wav/dev00.wav"), "u", "ab%")]
    write_data_dir(strange, rows)
    fails("irl.decode", path, "--data", strange, "--out", tmp_path, message="u-1: unknown character '%'")
    (tmp_path / "hyp").write_text("u-2 ab\n")
    fails("irl.score", strange / "text", tmp_path / "hyp", message="is missing")


def test_non_finite_updates_are_skipped_and_many_stop_the_run(recipe):
    done = run(
        "irl.train",
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


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"model": {}, "config": {"a": 1}})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device; the previous file stays"):
        checkpoint.save(path, {"model": {}, "config": {"a": 2}})
    assert checkpoint.load(path)["config"] == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoints_run_no_code(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="not a checkpoint: it cannot be read"):
        checkpoint.load(tmp_path / "evil.pt")
    torch.save({"model": {}, "config": {"a": Evil()}}, tmp_path / "evil2.pt")
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "evil2.pt")
    assert not (tmp_path / "written").exists()
