"""What cannot be used gives one line that says what is wrong, and status 1."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from needs import needs
from tiny import ENV, RATE, ROOT, run

from irl.core.errors import UserError
from irl.data.kaldi import Utterance, write_data_dir
from irl.training import checkpoint

needs("lightning_fabric")


BAD = [
    (["train.foo=1"], "command line: unknown key train.foo, known are updates, clean_updates"),
    (["nothing=1"], "command line: unknown key nothing, known are train_dir"),
    (["train.updates=many"], "command line: train.updates: expected int, found 'many'"),
    (["objective.gamma=-1"], "command line: objective.gamma: expected float >= 0, found -1"),
    (["objective.layers={encoder.7: 1.0}"], "unknown layer 'encoder.7', known are encoder.0, encoder.1, decoder.0"),
    (["objective.from_layer=encoder.9"], "unknown layer 'encoder.9', known are encoder.0, encoder.1, decoder.0"),
    (["objective.distance={l3: 1.0}"], "unknown distance 'l3', known are l2"),
    (["noise.musan=data/nothing"], "data/nothing/noise: no audio found"),
    (["train_dir=data/none"], "data/none: no such data directory"),
    (["features.mels=12"], "made with different feature settings; run stage 3 again"),
    (["task=video"], "task: expected one of speech, vision, language, character_lm, found 'video'"),
    (["model.attention=foo"], "model.attention: expected one of additive, dot, location, found 'foo'"),
    (["model.encoder_units=0"], "model.encoder_units: expected int >= 1, found 0"),
    (["augment.warps=[1.1, 0.9]"], "augment: warps: expected [low, high], got [1.1, 0.9]"),
    (
        ["augment.warps=[0.9, 1.1]", "features.low_hz=200"],
        "augment.warps needs features from below 100 to above 3500 Hz, got features of 200 to 4000 Hz",
    ),
    (
        ["augment.warps=[0.9, 1.1]", "features.mels=128"],
        "augment.warps: with a warp of 1 some of 128 mels hear nothing; take fewer",
    ),
    (["train.precision=foo"], "train.precision: expected one of 32-true, bf16-mixed, 16-mixed, auto, found 'foo'"),
    (["train.clip_norm=-5"], "train.clip_norm: expected float >= 0, found -5"),
    (["objective.alpha=null"], "objective.alpha: expected a value, found null"),
    (["objective.pairs=noisy"], "needs at least 2 copies"),
    (["ctc_weight=0"], "ctc_weight is 0"),
    (["features.low_hz=50"], "made with different feature settings; run stage 3 again"),
    (
        ["objective.distance={l2_mean:0.3}"],
        "objective.distance: expected a space after the colon, as in {l2_mean: 0.3}",
    ),
    (["train.threads=100000"], "train.threads: expected at most"),
    (["updates"], "command line: expected key=value, found 'updates'"),
    (["model.subsampling=[1]"], "subsampling needs one factor"),
]


@pytest.mark.parametrize("overrides, message", BAD, ids=[o[0] for o, _ in BAD])
def test_bad_configuration_is_one_line_and_status_1(recipe, overrides, message):
    done = run("irl.bin.train", "irl_loss.yaml", *overrides, "--exp", "exp/bad", cwd=recipe, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr


def test_status_and_one_line_of_the_real_command(recipe):
    line = [sys.executable, "-m", "irl.bin.train", "irl_loss.yaml", "--exp", "exp/bad", "train.foo=1"]
    done = subprocess.run(line, cwd=recipe, env=ENV, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_bad_files(recipe, reference, tmp_path):
    def fails(*args, message):
        done = run(*args, cwd=recipe, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and message in last, last

    fails("irl.bin.train", "none.yaml", "--exp", "exp/x", message="none.yaml: no such configuration file")
    (recipe / "bad.yaml").write_text("base: bad.yaml\n")
    fails(
        "irl.bin.train",
        "bad.yaml",
        "--exp",
        "exp/x",
        message="bad.yaml: base: a circle, bad.yaml -> bad.yaml",
    )
    (recipe / "bad.yaml").write_text("base: irl_batching.yaml\ntrain: {updates: 3, decay: [\n")
    fails("irl.bin.train", "bad.yaml", "--exp", "exp/x", message="bad.yaml: not valid YAML")
    (recipe / "bad.yaml").write_text("base: irl_batching.yaml\ntrain: {decay: up}\n")
    fails(
        "irl.bin.train",
        "bad.yaml",
        "--exp",
        "exp/x",
        message="bad.yaml: train.decay: expected one of linear, cosine, steps, plateau, none, found 'up'",
    )

    path = recipe / "exp/reference/checkpoint.pt"
    cut = tmp_path / "cut.pt"
    cut.write_bytes(path.read_bytes()[:-1000])
    fails(
        "irl.bin.evaluate", cut, "--conditions", "data/dev", "--out", tmp_path, message="cut.pt: truncated or damaged"
    )
    state = checkpoint.load(path)
    state["model"].pop("model.ctc.bias")
    checkpoint.save(tmp_path / "other.pt", state)
    fails(
        "irl.bin.evaluate",
        tmp_path / "other.pt",
        "--conditions",
        "data/dev",
        "--out",
        tmp_path,
        message="checkpoint of another model: ctc.bias",
    )
    fails(
        "irl.bin.train",
        "irl_loss.yaml",
        "model.encoder_units=9",
        "--exp",
        "exp/reference",
        message="was trained with model.encoder_units 8, this run has 9",
    )
    fails(
        "irl.bin.evaluate",
        "none.pt",
        "--conditions",
        "data/dev",
        "--out",
        tmp_path,
        message="none.pt: no such checkpoint",
    )

    strange = tmp_path / "strange"
    rows = [Utterance("u-1", str(recipe / "wav/dev00.wav"), "u", "ab%")]
    write_data_dir(strange, rows)
    fails("irl.bin.evaluate", path, "--conditions", strange, "--out", tmp_path, message="u-1: unknown character '%'")
    (tmp_path / "hyp").write_text("u-2 ab\n")
    fails("irl.bin.score_text", strange / "text", tmp_path / "hyp", message="is missing")


def test_errors_of_workers_are_one_line_too(recipe, tmp_path):
    shutil.copytree(recipe / "data/train", tmp_path / "train")
    x, _ = soundfile.read(recipe / "wav/train00.wav")
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(len(x)) == 5, np.nan, x), RATE, subtype="FLOAT")
    scp = (tmp_path / "train/wav.scp").read_text().replace(str(recipe / "wav/train00.wav"), str(tmp_path / "nan.wav"))
    (tmp_path / "train/wav.scp").write_text(scp)
    for workers in (0, 1):
        options = [f"train_dir={tmp_path}/train", f"train.workers={workers}", "features.normalise=utterance"]
        done = run(
            "irl.bin.train", "irl_loss.yaml", *options, "--exp", tmp_path / f"exp{workers}", cwd=recipe, check=False
        )
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and last.startswith("error: utterance spk0-train00") and "not finite" in last


def test_another_vocabulary_is_noticed(recipe):
    run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/tokens", "--stop", 2, cwd=recipe)
    tokens = recipe / "data/lang/tokens.txt"
    before = tokens.read_text()
    tokens.write_text(before.replace("a\nb\n", "b\na\n"))
    done = run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/tokens", cwd=recipe, check=False)
    tokens.write_text(before)
    assert done.returncode == 1 and "was trained with other tokens" in done.stderr


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


def test_the_page_of_bad_inputs_is_whole():
    text = (ROOT / "tests/INPUTS.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ``")]
    assert len(rows) > 300 and "Traceback" not in text and str(Path.home()) not in text and "/tmp/" not in text
    for row in rows:
        cells = re.fullmatch(r"\| `` (.+) `` \| `` (.+) `` \| `` (.+) `` \|", row)
        assert cells, row
        given, expected, found = (cell.replace(r"\|", "|") for cell in cells.groups())
        assert given and (expected in found or re.search(expected, found)), row
