import json
import random
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.bin import report
from irl.core.errors import UserError
from irl.data.kaldi import write_table
from irl.reporting import results
from irl.reporting.evaluation import last_evaluation
from irl.reporting.statistics import bootstrap, interval, paired_test
from irl.reporting.table import Table, markdown, select
from irl.speech import modality
from irl.speech.scoring import Edits, alignment, count_edits, score, summary, total, write_espnet, write_trn

WORDS = st.lists(st.sampled_from(["a", "b", "cd", "e"]), max_size=8)

CONFIG = {"task": "speech", "train": {"clean_updates": 5}}


def least_edits(a, b):
    """Wagner and Fischer, 1974."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


@given(WORDS, WORDS)
def test_counts(a, b):
    edits = count_edits(a, b)
    assert edits.errors == least_edits(a, b) and edits.reference == len(a)
    assert edits.insertions - edits.deletions == len(b) - len(a)
    top, bottom = alignment(a, b)
    assert len(top.split()) == len(bottom.split())


def test_jiwer_agrees():
    jiwer = pytest.importorskip("jiwer")
    rng = random.Random(0)
    pairs = [
        [" ".join(rng.choices(["one", "two", "six", "ten"], k=rng.randint(1, 8))) for _ in "rh"] for _ in range(200)
    ]
    words = total([count_edits(r.split(), h.split()) for r, h in pairs])
    characters = total([count_edits(r, h) for r, h in pairs])
    references, hypotheses = zip(*pairs)
    assert words.errors / words.reference == pytest.approx(jiwer.wer(list(references), list(hypotheses)))
    assert characters.errors / characters.reference == pytest.approx(jiwer.cer(list(references), list(hypotheses)))


def test_frozen_counts(tmp_path):
    write_table(tmp_path / "ref", {"u1": "the cat sat", "u2": "a dog", "u3": "x"})
    write_table(tmp_path / "hyp", {"u1": "the bat sat down", "u2": "dog", "u3": ""})
    found = score(tmp_path / "ref", tmp_path / "hyp")
    assert total(found.words) == Edits(reference=6, substitutions=1, deletions=2, insertions=1)
    assert total(found.characters) == Edits(reference=17, substitutions=1, deletions=3, insertions=5)
    assert summary("WER", found.words).startswith("%WER 66.67 [ 4 / 6, 1 ins, 2 del, 1 sub ]")
    top, bottom = alignment("the cat sat".split(), "the bat sat down".split())
    assert top.split() == ["the", "CAT", "sat", "****"] and bottom.split() == ["the", "BAT", "sat", "DOWN"]


def test_a_missing_utterance_is_an_error(tmp_path):
    write_table(tmp_path / "ref", {"u1": "a", "u2": "b"})
    write_table(tmp_path / "hyp", {"u1": "a"})
    for pair in (("ref", "hyp"), ("hyp", "ref")):
        with pytest.raises(UserError, match="hyp: utterance u2 is missing"):
            score(*(tmp_path / name for name in pair))


SCLITE = shutil.which("sclite") or (shutil.which("sctk") and "sctk")


@pytest.mark.skipif(not SCLITE, reason="NIST sclite is not installed (Debian package sctk)")
@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0])
def test_totals_equal_sclite(tmp_path, rate):
    """Equal on hypotheses such as recognisers make. sclite weighs a substitution 4 and the others 3, so where nearly
    everything is wrong it may count a few more errors than the least there are, never fewer."""
    rng = random.Random(1)
    words = ["one", "two", "six", "seven", "eleven"]
    reference = {f"s{i % 4}-u{i:03d}": " ".join(rng.choices(words, k=rng.randint(1, 9))) for i in range(100)}
    hypothesis = {}
    for key, text in reference.items():
        letters = [rng.choice([c + "e", "", "t"]) if rng.random() < rate else c for c in text]
        hypothesis[key] = " ".join("".join(letters).split())
    for name, table in (("ref", reference), ("hyp", hypothesis)):
        write_table(tmp_path / name, table)
        write_trn(tmp_path / f"{name}.trn", table)
    ours = total(score(tmp_path / "ref", tmp_path / "hyp").characters)
    command = ["sctk", "sclite"] if SCLITE == "sctk" else [SCLITE]
    trn = ["-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm", "-o", "rsum", "stdout"]
    out = subprocess.run([*command, *trn], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    line = next(row for row in out.splitlines() if row.strip().startswith("| Sum"))
    # Sentences, words, correct, substitutions, deletions, insertions, errors, wrong sentences.
    numbers = [int(x) for x in line.replace("|", " ").split()[1:]]
    assert numbers[:2] == [100, ours.reference]
    assert numbers[6] == ours.errors if rate < 0.5 else ours.errors <= numbers[6] <= 1.01 * ours.errors


def test_espnets_folders(tmp_path):
    """Counts by speaker and in all, as sclite counts them; trn files whose ids name the speaker."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir(), out.mkdir()
    (data / "text").write_text("a-1 one two\na-2 three\nb-1 four five six\n")
    (data / "utt2spk").write_text("a-1 ann\na-2 ann\nb-1 bob\n")
    (out / "text").write_text("a-1 one too\na-2 three\nb-1 four six six six\n")
    write_espnet(out, data, score(data / "text", out / "text"))
    rows = [line.replace("|", " ").split() for line in (out / "score_wer/result.txt").read_text().splitlines()[1:]]
    # Words: ann has one substitution in three, bob one substitution and one insertion in three.
    assert rows[0] == ["ann", "2", "3", "66.7", "33.3", "0.0", "0.0", "33.3", "50.0"]
    assert rows[1] == ["bob", "1", "3", "66.7", "33.3", "0.0", "33.3", "66.7", "100.0"]
    assert rows[2] == ["Sum/Avg", "3", "6", "66.7", "33.3", "0.0", "16.7", "50.0", "66.7"]
    assert (out / "score_cer/hyp.trn").read_text().splitlines()[0] == "o n e <space> t o o (ann-a-1)"
    assert (out / "score_wer/ref.trn").read_text().splitlines()[2] == "four five six (bob-b-1)"


def test_a_table_with_and_without_a_language_model(tmp_path):
    def lines(method, errors, lm):
        decode = {"search": "joint", "beam": 5, "ctc_weight": 0.3, "length_bonus": 0.0, "tuned": ["dev"]}
        decode = {**decode, "lm": "x", "lm_weight": 0.4} if lm else decode
        return [{**line(method, seed, {"none": errors, "tel": errors}), "decode": decode} for seed in (1, 2)]

    rows = [
        *lines("irl_loss", [5, 5, 5], False),
        *lines("irl_loss", [1, 2, 2], True),
        *lines("baseline", [9, 9, 9], True),
    ]
    table = Table(select(rows, None))
    assert table.methods == ["baseline + LM", "irl_loss", "irl_loss + LM"]
    text = markdown(table, "")
    assert "| IRL loss + LM - IRL loss | -16.7" in text and "| IRL loss + LM - baseline + LM |" in text
    assert "Decoding: joint search, beam 5, ctc weight 0.3, length bonus 0; weights tuned on dev." in text
    assert "Decoding with LM: joint search" in text and "lm weight 0.4, with a character LM; weights" in text
    # Asked for one of them, it alone is shown under its own name.
    wanted = [{**rows[0], "decode": {**rows[0]["decode"], "tuned": ["dev"]}, "conditions": ["none"]}]
    assert {row["method"] for row in select(rows, wanted)} == {"irl_loss"}
    # Weights that differ between runs are not to be compared.
    rows[1]["decode"] = {**rows[1]["decode"], "ctc_weight": 0.5}
    with pytest.raises(UserError, match="not to be compared"):
        Table(select(rows, None))


def test_bootstrap_interval_covers():
    """Of 200 experiments whose true rate is 0.1, the 95 % interval holds it in 90-99 %."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        reference = rng.integers(5, 40, 60)
        low, high = interval(reference, rng.binomial(reference, 0.1))
        held += low <= 0.1 <= high
    assert 180 <= held <= 198


def test_paired_test():
    rng = np.random.default_rng(0)
    weights = bootstrap(100)
    base = rng.binomial(30, 0.2, 100).astype(float)
    better, same = base - (rng.random(100) < 0.5) * (base > 0), rng.permutation(base)
    reference = weights @ np.full(100, 30.0)
    rates = {k: (weights @ v) / reference for k, v in (("base", base), ("better", better), ("same", same))}
    found = paired_test(rates["better"], rates["base"], (better - base).sum() / 3000)
    assert found["high"] < 0 and found["p"] < 0.002
    none = paired_test(rates["same"], rates["base"], 0.0)
    assert none["low"] < 0 < none["high"] and none["p"] > 0.05


def line(method, seed, errors, updates=10):
    cond = {
        name: {"reference": [10, 20, 30], "errors": e, "data": "x", "cer": {}, "wer": {}} for name, e in errors.items()
    }
    return {
        "corpus": "toy", "method": method, "seed": seed, "digest": f"{method}{seed}", "commit": "a", "versions": {},
        "train_seconds": 60.0, "updates": updates, "skipped": 0, "config": CONFIG,
        "decode": {"search": "joint"}, "conditions": cond,
    }  # fmt: skip


def test_decoding_in_another_way_is_another_result():
    wanted = {"corpus": "toy", "method": "a", "digest": "a1", "conditions": ["none"]}
    plain = {"search": "joint", "beam": 5, "ctc_weight": 0.5, "length_bonus": 0.0}

    def found(decode):
        return {**line("a", 1, {"none": [1, 2, 3]}), "decode": decode}

    tuned = {**plain, "lm_weight": 0.4, "lm": "x", "tuned": ["dev"]}
    asked = {"search": "joint", "beam": 5, "ctc_weight": 0.5, "lm": "x", "tuned": ["dev"]}
    assert results.matches(found(plain), {**wanted, "decode": plain}, modality)
    assert results.matches(found({**plain, "nbest": 1, "pre_beam_ratio": 1.5}), {**wanted, "decode": plain}, modality)
    assert results.matches(found(tuned), {**wanted, "decode": asked}, modality)
    assert not results.matches(found(tuned), {**wanted, "decode": plain}, modality)
    assert not results.matches(found(tuned), {**wanted, "decode": {**asked, "lm": "y"}}, modality)
    assert not results.matches(found(tuned), {**wanted, "decode": {**asked, "tuned": ["other"]}}, modality)
    assert not results.matches(found({**plain, "max_length": 0.5}), {**wanted, "decode": plain}, modality)
    # Rooms that were given are not those that were generated.
    given = {**wanted, "decode": plain, "banks": ["generated", "RIRS_NOISES"]}
    assert not results.matches(found(plain), given, modality)
    assert results.matches({**found(plain), "banks": ["generated", "RIRS_NOISES"]}, given, modality)


def test_results_lines_are_kept_and_replaced(tmp_path):
    path = tmp_path / "r.jsonl"
    assert results.read(path) == []
    results.append(path, line("a", 1, {"none": [0, 0, 0]}), modality)
    results.append(path, line("a", 2, {"none": [1, 0, 0]}), modality)
    results.append(path, line("a", 1, {"none": [2, 0, 0]}), modality)
    assert [r["conditions"]["none"]["errors"][0] for r in results.read(path)] == [1, 2]
    with open(path, "a") as file:
        file.write('{"half')
    with pytest.raises(UserError, match=r"r.jsonl:3: not a JSON line"):
        results.read(path)


def test_report_of_ablations(tmp_path, monkeypatch):
    """Rows in the order of their lines, each tested against IRL batching, with what became of activations on dev."""
    path = tmp_path / "r.jsonl"
    others = [(f"ablations/{i}", 6, 4.0) for i in range(3)]
    rows = [("ablations/l2", 3, 5.0), ("irl_batching", 6, 4.0), ("ablations/cosine", 9, 3.0), ("baseline", 30, 1.0)]
    for method, errors, rank in rows + others:
        dev = {"rank/encoder.0": rank, "rank/decoder.0": rank + 1, "loss/clean": 0.5}
        row = line(method, 1, {"none": [0, 0, errors], "rir": [1, 1, 1], "tel": [1, 1, 1]})
        results.append(path, {**row, "dev": dev}, modality)
    monkeypatch.setattr("sys.argv", ["report", str(path), "--corpus", "toy", "--out", str(tmp_path / "out")])
    report.main()
    text = (tmp_path / "out" / "table.md").read_text()
    first = [row.split(" | ")[0] for row in text.splitlines() if row.startswith("| ")]
    assert first[:5] == ["| method", "| baseline", "| IRL batching", "| l2", "| cosine"]
    # So many methods are drawn as differences, without the far baseline.
    drawn = (tmp_path / "out" / "table.svg").read_text()
    assert "difference to IRL batching" in drawn and "<!-- l2 -->" in drawn and "<!-- baseline -->" not in drawn
    assert "| l2 - IRL batching | -5.0 (" in text and "| cosine - IRL batching | +5.0 (" in text
    assert "| l2 |  |  |  | 5.5 |" in text


def test_last_evaluation_is_found_among_other_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert last_evaluation(path) == {}
    rows = [{"step": 1, "dev/loss/clean": 2.0}, {"step": 2, "dev/loss/clean": 1.0}, {"step": 2, "total": 3.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert last_evaluation(path) == {"loss/clean": 1.0}


def test_report(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "r.jsonl"
    for seed in (1, 2):
        results.append(
            path, line("irl_batching", seed, {"none": [0, 3, 3], "rir": [6, 6, 6], "tel": [9, 9, 12]}), modality
        )
        results.append(
            path, line("irl_loss", seed, {"none": [0, 3, 3 * seed], "rir": [3, 3, 3], "tel": [6, 6, 6]}), modality
        )
    argv = ["report", str(path), "--corpus", "toy", "--out", str(tmp_path / "out"), "--note", "A toy."]
    monkeypatch.setattr("sys.argv", argv)
    report.main()
    text = (tmp_path / "out" / "table.md").read_text()
    assert text == capsys.readouterr().out.split("\ntable:")[0]
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| IRL")]
    assert rows[0][0] == "| IRL batching" and rows[0][1].startswith("**10.0** (") and rows[0][1].endswith("±0.0")
    # Seeds 6/60 and 9/60; 9/60 and 18/60 under noise, whose mean is 22.5 %.
    assert rows[1][1].startswith("12.5 (") and rows[1][1].endswith("±3.5") and rows[1][4].startswith("**22.5** (")
    assert "IRL loss - IRL batching" in text and "A toy." in text
    assert (tmp_path / "out" / "table.png").stat().st_size > 5000 and (tmp_path / "out" / "table.svg").exists()
    # Another configuration's older line of the same method and seed is not a further seed.
    old = {**line("irl_loss", 1, {"none": [9, 9, 9], "rir": [9, 9, 9], "tel": [9, 9, 9]}), "digest": "old"}
    lines = path.read_text()
    path.write_text(json.dumps(old) + "\n" + lines)
    report.main()
    assert (tmp_path / "out" / "table.md").read_text() == text
    wanted = {
        "corpus": "toy",
        "method": "irl_loss",
        "seed": 1,
        "digest": "old",
        "decode": {"search": "joint"},
        "conditions": ["none"],
    }
    (tmp_path / "wanted").write_text(json.dumps(wanted) + "\n")
    monkeypatch.setattr("sys.argv", [*argv, "--wanted", str(tmp_path / "wanted")])
    report.main()
    assert "Seeds: IRL loss 1." in (tmp_path / "out" / "table.md").read_text()
    monkeypatch.setattr("sys.argv", argv)
    path.write_text(lines + json.dumps({**line("baseline", 1, {}), "updates": 20}) + "\n")
    with pytest.raises(UserError, match="baseline, seed 1: updates is 20, but 10 for irl_batching"):
        report.main()
    path.write_text(lines)
    other = line("baseline", 1, {"none": [0, 0, 0], "rir": [0, 0, 0]})
    with open(path, "a") as file:
        file.write(json.dumps(other) + "\n")
    with pytest.raises(UserError, match="baseline, seed 1: was not tested on the same utterances in condition tel"):
        report.main()
