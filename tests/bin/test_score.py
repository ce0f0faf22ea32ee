import json
import random
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.core.errors import UserError
from irl.data.kaldi import write_table
from irl.reporting.evaluation import last_evaluation
from irl.speech.scoring import Edits, alignment, count_edits, score, summary, total, write_espnet, write_trn

WORDS = st.lists(st.sampled_from(["a", "b", "cd", "e"]), max_size=8)


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


def test_last_evaluation_is_found_among_other_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert last_evaluation(path) == {}
    rows = [{"step": 1, "dev/loss/clean": 2.0}, {"step": 2, "dev/loss/clean": 1.0}, {"step": 2, "total": 3.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert last_evaluation(path) == {"loss/clean": 1.0}
