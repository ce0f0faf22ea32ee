"""Decoding, scoring and transcribing with a trained checkpoint."""

import json
import math
import shutil

import numpy as np
import pytest
import soundfile
from needs import needs
from tiny import RATE, metrics, run, same_weights

from irl.core.fingerprint import stable_hash
from irl.data.kaldi import read_data_dir
from irl.training import checkpoint

needs("lightning_fabric")


def test_decode_score_transcribe(recipe, reference):
    evaluate = ("irl.bin.evaluate", "exp/reference/checkpoint.pt", "--conditions", "data/dev", "--out")
    run(*evaluate, "exp/dec", "--nbest", 2, cwd=recipe)
    again = run(*evaluate, "exp/dec", "--nbest", 2, cwd=recipe)
    assert "already decoded" in again.stderr
    for change in (["--beam", 3], ["--search", "attention"]):
        other = run(*evaluate, "exp/o", *change, cwd=recipe)
        assert "already decoded" not in other.stderr
    lines = [json.loads(line) for line in (recipe / "exp/dec/dev/nbest.jsonl").read_text().splitlines()]
    assert len(lines) == 5 and set(lines[0]["nbest"][0]) == {
        "text",
        "tokens",
        "score",
        "decoder",
        "ctc",
        "length_bonus",
    }
    out = run(
        "irl.bin.score_text",
        "data/dev/text",
        "exp/dec/dev/text",
        "--alignments",
        "exp/a.txt",
        "--trn",
        "exp/t",
        cwd=recipe,
    )
    assert out.stdout.startswith("%CER ") and "5 utterances" in out.stdout and (recipe / "exp/t.ref.trn").exists()
    for search in ("attention", "ctc", "espnet"):
        run(*evaluate, f"exp/{search}", "--search", search, cwd=recipe)
    # ESPnet's search and ours agree.
    assert (recipe / "exp/espnet/dev/text").read_text() == (recipe / "exp/dec/dev/text").read_text()
    stereo = recipe / "stereo.wav"
    x, _ = soundfile.read(recipe / "wav/dev00.wav")
    soundfile.write(stereo, np.stack([np.repeat(x, 2)] * 2, axis=1), 2 * RATE)
    out = run("irl.bin.transcribe", "exp/reference/checkpoint.pt", recipe / "wav/dev00.wav", stereo, cwd=recipe)
    assert [line.split("\t")[0] for line in out.stdout.splitlines()] == [str(recipe / "wav/dev00.wav"), str(stereo)]


def test_parts_join_to_the_whole(recipe, reference):
    line = ["irl.bin.evaluate", "exp/reference/checkpoint.pt", "--conditions", "data/train", "data/dev", "--nbest", 2]
    run(*line, "--batch-size", 3, "--out", "exp/whole", cwd=recipe)
    part = [*line, "--batch-size", 3, "--out", "exp/parts", "--jobs", 3]
    for job in (3, 1):
        run(*part, "--job", job, cwd=recipe)
    lacking = run(*part, cwd=recipe, check=False)
    assert lacking.returncode == 1 and "part.2.of.3.jsonl: this part is missing" in lacking.stderr
    run(*part, "--job", 2, cwd=recipe)
    # A part of other options is noticed, and one that is there is not decoded again.
    other = run(*part, "--beam", 2, cwd=recipe, check=False)
    assert (
        other.returncode == 1
        and "part.1.of.3.jsonl: this part is missing or belongs to a different run" in other.stderr
    )
    before = (recipe / "exp/parts/dev/part.1.of.3.jsonl").stat().st_mtime_ns
    run(*part, "--job", 1, cwd=recipe)
    assert (recipe / "exp/parts/dev/part.1.of.3.jsonl").stat().st_mtime_ns == before
    # Parts of another number of jobs do not stand in the way.
    run(*line, "--batch-size", 3, "--out", "exp/parts", "--jobs", 2, "--job", 1, cwd=recipe)
    run(*part, cwd=recipe)
    for name in ("train", "dev"):
        for table in ("text", "token", "token_int", "score", "nbest.jsonl"):
            assert (recipe / f"exp/parts/{name}/{table}").read_text() == (
                recipe / f"exp/whole/{name}/{table}"
            ).read_text()
        assert not list((recipe / f"exp/parts/{name}").glob("part.*"))


LM = """
task: character_lm
train_dir: data/train
dev_dir: data/dev
vocabulary: data/lang/tokens.txt
model: {layers: 1, units: 16, embedding_units: 8}
train: {updates: 60, batch_size: 8, learning_rate: 1.0e-2, warmup_updates: 5, eval_every: 20, threads: 1}
"""


@pytest.fixture(scope="module")
def lm(recipe):
    (recipe / "lm.yaml").write_text(LM)
    run("irl.bin.train", "lm.yaml", "--exp", "exp/lm", cwd=recipe)
    return recipe / "exp/lm/checkpoint.pt"


def test_the_language_model_learns_and_resumes_to_the_bit(recipe, lm):
    lines = metrics(recipe / "exp/lm/metrics.jsonl")
    dev = [line["dev/loss/clean"] for line in lines if "dev/loss/clean" in line]
    train = [line["clean"] for line in lines if "clean" in line]
    # Four letters of equal probability and an end: better than guessing among all tokens, no better than possible.
    assert len(dev) == 3 and train[-1] < train[0] and math.log(4) - 0.2 < dev[-1] < math.log(7) - 0.2
    run("irl.bin.train", "lm.yaml", "--exp", "exp/lm_stopped", "--stop", 33, cwd=recipe)
    run("irl.bin.train", "lm.yaml", "--exp", "exp/lm_stopped", cwd=recipe)
    assert same_weights(checkpoint.load(lm), checkpoint.load(recipe / "exp/lm_stopped/checkpoint.pt"))
    # More text is more batches.
    (recipe / "more.txt").write_text("ab cd\n\nda bb\n".replace(" ", ""))
    run("irl.bin.train", "lm.yaml", "extra_text=[more.txt]", "train.updates=2", "--exp", "exp/lm_more", cwd=recipe)
    (recipe / "more.txt").write_text("abcd\nab%\n")
    bad = run("irl.bin.train", "lm.yaml", "extra_text=[more.txt]", "--exp", "exp/lm_bad", cwd=recipe, check=False)
    assert bad.returncode == 1 and "more.txt:2: unknown character '%'" in bad.stderr
    bad = run("irl.bin.train", "lm.yaml", "objective.beta=1", "--exp", "exp/lm_bad", cwd=recipe, check=False)
    assert bad.returncode == 1 and "this task has no noisy views" in bad.stderr


def test_weights_are_tuned_on_dev_and_fusion_equals_espnets(recipe, reference, lm):
    data = ["--conditions", "data/dev"]
    tune = [
        "irl.bin.tune",
        "exp/reference/checkpoint.pt",
        "--data",
        "data/dev",
        "--lm",
        lm,
        "--out",
        "exp/search.json",
        "--beam",
        4,
    ]
    grid = ["--ctc-weights", 0.3, 0.6, "--lm-weights", 0, 0.5, "--length-bonuses", 0, 0.5]
    run(*tune, *grid, cwd=recipe)
    found = json.loads((recipe / "exp/search.json").read_text())
    assert len(found["errors"]) == 8 and found["options"]["beam"] == 4
    # The errors of the best and of the worst are those that decoding with them makes.
    for index in (found["errors"].index(min(found["errors"])), found["errors"].index(max(found["errors"]))):
        options = found["grid"][index]
        weights = [
            f"--{k.replace('_', '-')}={options[k]}" for k in ("ctc_weight", "lm_weight", "length_bonus") if k in options
        ]
        weights += ["--lm", lm] if "lm_weight" in options else []
        run(
            "irl.bin.evaluate",
            "exp/reference/checkpoint.pt",
            *data,
            *weights,
            "--beam",
            4,
            "--out",
            "exp/t",
            cwd=recipe,
        )
        out = run("irl.bin.score_text", "data/dev/text", "exp/t/dev/text", cwd=recipe).stdout
        assert f"[ {found['errors'][index]} / {found['reference']}," in out
    best = found["grid"][found["errors"].index(min(found["errors"]))]
    assert all(found["options"][key] == value for key, value in best.items())
    assert "already tuned" in run(*tune, *grid, cwd=recipe).stderr
    # The utterances with the smallest hashes are taken; the lengths of all are listed.
    few = ["--utterances", 2, "--out", "exp/few.json"]
    run(*tune, *grid, *few, cwd=recipe)
    chosen = sorted(read_data_dir(recipe / "data/dev"), key=lambda u: stable_hash(u.id))[:2]
    expected = sum(len(u.text) for u in chosen)
    assert json.loads((recipe / "exp/few.json").read_text())["reference"] == expected < found["reference"]
    other = run(*tune, *grid, "--beam", 3, cwd=recipe, check=False)
    assert other.returncode == 1 and "search.json: was tuned with a different grid; remove it" in other.stderr
    out = ["--lm", lm, "--tuned", "exp/search.json", "--out", "exp/tuned"]
    run("irl.bin.evaluate", "exp/reference/checkpoint.pt", *data, *out, cwd=recipe)
    done = json.loads((recipe / "exp/tuned/dev/done.json").read_text())["fingerprint"]
    assert done["options"]["tuned"] == ["dev"] and done["options"]["lm"] and done["lm_weights"]
    fused = ["--lm", lm, "--lm-weight", 0.5, "--length-bonus", 0.2, "--nbest", 3]
    for search in ("joint", "espnet"):
        run(
            "irl.bin.evaluate",
            "exp/reference/checkpoint.pt",
            *data,
            *fused,
            "--search",
            search,
            "--out",
            f"exp/{search}_lm",
            cwd=recipe,
        )
    ours, theirs = (
        [json.loads(line) for line in (recipe / f"exp/{search}_lm/dev/nbest.jsonl").read_text().splitlines()]
        for search in ("joint", "espnet")
    )
    for a, b in zip(ours, theirs, strict=True):
        assert [h["text"] for h in a["nbest"]] == [h["text"] for h in b["nbest"]]
        assert a["nbest"][0]["lm"] == pytest.approx(b["nbest"][0]["lm"], abs=1e-3)
    # What cannot be used.
    (recipe / "half.json").write_text('{"options": {"ctc_weight": 0.5}, "data"')
    checkpoint.save(recipe / "half.pt", {**checkpoint.load(lm), "step": 3})
    for args, message in [
        (["--lm-weight", 0.5], "a positive LM weight needs a language model"),
        (["--lm", lm], "--lm without --lm-weight (or --tuned) would do nothing"),
        (
            ["--lm", "exp/reference/checkpoint.pt", "--lm-weight", 0.5],
            "a checkpoint of task 'speech', expected 'character_lm'",
        ),
        (["--tuned", "nothing.json"], "nothing.json: no such file of tuned weights"),
        (["--tuned", "half.json"], "half.json: not a file of irl tune"),
        (["--lm", "half.pt", "--lm-weight", 0.5], "half.pt: at update 3 of 60, train it to its end"),
    ]:
        bad = run(
            "irl.bin.evaluate", "exp/reference/checkpoint.pt", *data, *args, "--out", "exp/x", cwd=recipe, check=False
        )
        assert bad.returncode == 1 and message in bad.stderr
    state = checkpoint.load(lm)
    checkpoint.save(recipe / "other_lm.pt", {**state, "tokens": state["tokens"][::-1]})
    other = [*data, "--lm", "other_lm.pt", "--lm-weight", 1, "--out", "exp/x"]
    bad = run("irl.bin.evaluate", "exp/reference/checkpoint.pt", *other, cwd=recipe, check=False)
    assert bad.returncode == 1 and "expected a language model over the recogniser's tokens" in bad.stderr


def test_transcribe_goes_on_after_a_bad_file(recipe, reference, lm, monkeypatch):
    from irl.speech import pauses

    good, line = recipe / "wav/dev00.wav", ["irl.bin.transcribe", "exp/reference/checkpoint.pt"]
    (recipe / "bad.wav").write_bytes(b"no audio")
    soundfile.write(recipe / "silent.wav", np.zeros(RATE), RATE)
    done = run(*line, "none.wav", good, recipe / "bad.wav", recipe / "silent.wav", cwd=recipe, check=False)
    assert done.returncode == 1 and done.stdout.splitlines()[1] == f"{recipe}/silent.wav\t"
    (spoken,) = run(*line, good, cwd=recipe).stdout.splitlines()
    assert done.stdout.splitlines()[0] == spoken
    for message in (
        "error: none.wav: no such file",
        f"{recipe}/silent.wav: silence, nothing in it is louder than -60 dBFS",
        f"error: 2 of 4 recordings could not be transcribed: none.wav, {recipe}/bad.wav",
    ):
        assert message in done.stderr
    # A long recording is cut, and its pieces are recognised one after the other.
    monkeypatch.setattr(pauses, "SHORTEST", 0.1)
    monkeypatch.setattr(pauses, "LONGEST", 0.4)
    x, _ = soundfile.read(good)
    soundfile.write(recipe / "long.wav", np.concatenate([x, np.zeros(RATE), x]), RATE)
    text = run(*line, recipe / "long.wav", cwd=recipe).stdout.rstrip("\n").partition("\t")[2]
    assert len(text) > len(spoken.partition("\t")[2])
    for options, message in (
        (["--lm", lm], "--lm without --lm-weight (or --tuned) would do nothing"),
        (["--nbest", 2], "unrecognized arguments: --nbest"),
    ):
        done = run(*line, good, *options, cwd=recipe, check=False)
        assert done.returncode and message in done.stderr and "Traceback" not in done.stderr


def test_recordings_without_transcripts_are_decoded(recipe, reference):
    whole = ["irl.bin.evaluate", "exp/reference/checkpoint.pt", "--search", "ctc", "--conditions"]
    run(*whole, "data/dev", "--out", "exp/labelled", cwd=recipe)
    shutil.copytree(recipe / "data/dev", recipe / "data/unlabelled")
    (recipe / "data/unlabelled/text").unlink()
    run(*whole, "data/unlabelled", "--out", "exp/unlabelled", cwd=recipe)
    text = (recipe / "exp/unlabelled/unlabelled/text").read_text()
    assert text == (recipe / "exp/labelled/dev/text").read_text() and text.count("\n") == 5


@pytest.mark.parametrize("content", ["", "[1]", '{"fingerprint": {}}\n{}'])
def test_damaged_parts_and_marks_are_made_again(recipe, reference, content):
    line = ["irl.bin.evaluate", "exp/reference/checkpoint.pt", "--conditions", "data/dev", "--search", "ctc"]
    line += ["--out", "exp/damaged"]
    run(*line, "--jobs", 2, "--job", 1, cwd=recipe)
    part = recipe / "exp/damaged/dev/part.1.of.2.jsonl"
    before = part.read_text()
    part.write_text(content)
    run(*line, "--jobs", 2, "--job", 2, cwd=recipe)
    joined = run(*line, "--jobs", 2, cwd=recipe, check=False)
    assert joined.returncode == 1 and "part.1.of.2.jsonl: this part is missing" in joined.stderr
    part.write_text(before.splitlines()[0] + "\n" + content)
    run(*line, "--jobs", 2, "--job", 1, cwd=recipe)
    run(*line, "--jobs", 2, cwd=recipe)
    done = recipe / "exp/damaged/dev/done.json"
    done.write_text(content)
    again = run(*line, cwd=recipe)
    assert "already decoded" not in again.stderr and "already decoded" in run(*line, cwd=recipe).stderr
    shutil.rmtree(recipe / "exp/damaged")
