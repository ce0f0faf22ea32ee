"""egs/wsj end to end: all eight stages on a few recordings, in a copy of the recipe."""

import json
import sys

import numpy as np
import pytest
import recipes
import soundfile
import trees
from needs import needs
from recipes import ROOT, results_of, run

from irl.data.kaldi import Utterance, read_data_dir, write_data_dir
from irl.noise.bank import Bank, RIRBank

needs("lightning_fabric")
SMALL = (
    "train.updates=6 train.clean_updates=3 train.warmup_updates=2 features.mels=10 model.encoder_units=8 "
    "model.decoder_units=8 model.embedding_units=4 model.attention_units=8"
)


@pytest.fixture
def egs(tmp_path, warm_python):
    return recipes.copy("wsj", tmp_path, warm_python)


def recordings(folder, rng, count, rate=16000):
    """A data directory as a user with a few recordings would write it."""
    rows = []
    for i in range(count):
        speaker = f"spk{i % 2}"
        path = folder / f"{speaker}-{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.normal(size=rng.integers(9000, 14000)), rate)
        rows.append(Utterance(path.stem, str(path), speaker, " ".join(rng.choice(["yes", "no", "maybe"], 2))))
    write_data_dir(folder, rows)


def test_own_recordings_through_all_stages(egs, tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("train", 12), ("dev", 3), ("test", 4)):
        recordings(tmp_path / "own" / name, rng, count)
    options = [
        "--corpus", "kaldi", "--train-dir", tmp_path / "own/train", "--dev-dir", tmp_path / "own/dev",
        "--test-dirs", tmp_path / "own/test", "--methods", "baseline irl_loss", "--overrides", SMALL,
        "--conditions", "additive tel", "--beam", "2",
    ]  # fmt: skip
    out = run("./run.sh", *options, cwd=egs).stdout
    for stage in range(8):
        assert f"stage {stage}: " in out
    lines = [json.loads(line) for line in (egs / "exp/kaldi/results.jsonl").read_text().splitlines()]
    assert [(r["method"], r["seed"], r["updates"]) for r in lines] == [("baseline", 1, 6), ("irl_loss", 1, 6)]
    assert set(lines[0]["conditions"]) == {"none", "additive", "tel"}
    assert all(len(c["errors"]) == 4 and sum(c["reference"]) > 0 for c in lines[0]["conditions"].values())
    table = (egs / "exp/kaldi/report/table.md").read_text()
    assert "| IRL loss |" in table and "An example, utterance" in table
    assert (egs / "exp/kaldi/report/table.png").exists() and (egs / "exp/kaldi/report/distances.svg").exists()
    rows = (egs / "exp/kaldi/report/distances.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 8 and rows[1].startswith("baseline.1,encoder.0,")
    # The noisy copies are utterances one can listen to, drawn once.
    assert soundfile.info(egs / read_data_dir(egs / "data/kaldi/noisy/test_tel")[0].wav).subtype == "PCM_16"
    before = (egs / "data/kaldi/noisy/test_tel/wav/spk0-00.wav").read_bytes()

    # Runs with a result are not made again, and test sets made again are the same.
    more = run("./run.sh", *options, "--seeds", "1 2", "--stage", "4", "--stop-stage", "6", cwd=egs).stdout
    assert "runs without a result in exp/kaldi/results.jsonl: 2" in more
    assert len((egs / "exp/kaldi/results.jsonl").read_text().splitlines()) == 4
    assert "±" in (egs / "exp/kaldi/report/table.md").read_text()
    telephone = [tmp_path / "own/test", "data/kaldi/noisy/test_tel", "--condition", "tel"]
    run(sys.executable, "-m", "irl.bin.corrupt", *telephone, cwd=egs)
    assert (egs / "data/kaldi/noisy/test_tel/wav/spk0-00.wav").read_bytes() == before

    # A stage that fails says why, and the recipe stops there.
    wrong = run("./run.sh", *options, "--stage", "4", "--overrides", SMALL + " train.updates=0", cwd=egs, check=False)
    assert wrong.returncode == 1 and "error: command line: train.updates: expected int >= 1, found 0" in wrong.stderr


def test_wsj_with_musan_rooms_and_a_language_model_through_all_stages(egs, tmp_path):
    wsj0, wsj1 = trees.larger_wsj(tmp_path)
    banks = ["--musan", trees.musan(tmp_path / "musan"), "--rirs", trees.rirs_noises(tmp_path / "RIRS_NOISES")]
    options = [
        "--corpus", "wsj", "--wsj0", wsj0, "--wsj1", wsj1, *banks, "--methods", "irl_loss",
        "--overrides", SMALL, "--conditions", "additive rir", "--beam", "2", "--lm", "true",
        "--tune", "true", "--lm-overrides", "train.updates=4 model.units=8 model.embedding_units=4",
    ]  # fmt: skip
    wrong = run("./run.sh", *options, cwd=egs, check=False)
    assert wrong.returncode == 1 and "train_si284: 13 utterances, 37416 are published (-37403)" in wrong.stderr
    out = run("./run.sh", *options, "--incomplete", "true", cwd=egs).stdout
    for stage in range(8):
        assert f"stage {stage}: " in out
    rows = results_of(egs / "exp/wsj-incomplete/results.jsonl")
    assert [(row["method"], *row["conditions"]) for row in rows] == [("irl_loss", "none", "additive", "rir")]
    # The weights are those that were found on dev and on its noisy copy, and the table names them.
    weights = json.loads((egs / "exp/wsj-incomplete/results.lm-weights.json").read_text())
    assert weights["data"] == ["test_dev93", "test_dev93_heard"]
    for row in rows:
        assert row["decode"]["tuned"] == weights["data"] and row["decode"]["lm"]
        assert all(row["decode"].get(key, 0) == weights["options"][key] for key in ("ctc_weight", "lm_weight"))
    table = (egs / "exp/wsj-incomplete/report/table.md").read_text()
    assert "weights tuned on test_dev93, test_dev93_heard" in table and "with a character LM" in table
    # No clip and no room of training is heard in dev or test.
    heard = {}
    for part in ("train", "dev", "test"):
        clips, rooms = Bank(tmp_path / "musan", 16000, ["noise", "music"], part), RIRBank(
            tmp_path / "RIRS_NOISES", 16000, part
        )
        heard[part] = {c.path for each in clips.clips.values() for c in each}
        heard[part] |= {p.parent.name for paths in rooms.paths.values() for p in paths}
        used = [str(p) for paths in rooms.paths.values() for p in paths]
        assert not any("pointsource" in path or "isotropic" in path for path in used)
    assert not heard["train"] & heard["dev"] and not heard["train"] & heard["test"] and not heard["dev"] & heard["test"]
    # ESPnet's folders beside each other, and a second call finds nothing to do.
    decoded = egs / "exp/wsj-incomplete/irl_loss.1/evaluate/test_eval92_rir"
    for name in ("text", "token", "token_int", "score", "nbest.jsonl", "score_cer/ref.trn", "score_cer/hyp.trn",
                 "score_cer/result.txt", "score_wer/ref.trn", "score_wer/result.txt"):  # fmt: skip
        assert (decoded / name).stat().st_size, name
    again = run("./run.sh", *options, "--incomplete", "true", "--stage", "3", "--stop-stage", "6", cwd=egs).stdout
    assert "runs without a result in exp/wsj-incomplete/results.jsonl: 0" in again
    assert results_of(egs / "exp/wsj-incomplete/results.jsonl") == rows


@pytest.mark.slow
def test_librispeech_with_two_test_sets_through_all_stages(egs, tmp_path):
    train = ("train-clean-100", "train-clean-360")
    trees.librispeech(tmp_path, train[:1], (103, 19, 26), 3)
    trees.librispeech(tmp_path, train[1:], (14, 16), 2)
    for parts, speakers in (
        (("dev-clean",), (84,)),
        (("dev-other",), (116,)),
        (("test-clean", "test-other"), (61, 121)),
    ):
        trees.librispeech(tmp_path, parts, speakers, 2)
    # Both test sets are of the same speakers here, which LibriSpeech's are not; their utterances keep apart by set.
    options = [
        "--corpus", "librispeech", "--librispeech", tmp_path, "--train-parts", " ".join(train), "--incomplete", "true",
        "--musan", trees.musan(tmp_path / "musan"), "--methods", "irl_loss", "--overrides", SMALL,
        "--conditions", "additive rir", "--beam", "2",
    ]  # fmt: skip
    out = run("./run.sh", *options, cwd=egs).stdout
    for stage in range(8):
        assert f"stage {stage}: " in out
    assert len(read_data_dir(egs / "data/librispeech-clean-100-clean-360-incomplete/train")) == 13
    assert {u.speaker for u in read_data_dir(egs / "data/librispeech-clean-100-clean-360-incomplete/dev")} == {
        "84",
        "116",
    }
    (row,) = results_of(egs / "exp/librispeech-clean-100-clean-360-incomplete/results.jsonl")
    names = [
        f"{test}:{condition}" for test in ("test-clean", "test-other") for condition in ("none", "additive", "rir")
    ]
    assert list(row["conditions"]) == names
    assert row["config"]["augment"] == {"speeds": [0.9, 1.0, 1.1], "specaugment": True}
    table = (egs / "exp/librispeech-clean-100-clean-360-incomplete/report/table.md").read_text()
    assert "Test set test-clean." in table and "Test set test-other." in table
    flag = run("./run.sh", "--corpus", "librispeech", "--tune", "yes", cwd=egs, check=False)
    assert flag.returncode == 1 and "--tune: expected true or false, found yes" in flag.stderr
    missing = run("./run.sh", "--corpus", "librispeech", "--stop-stage", "0", cwd=egs, check=False)
    assert missing.returncode == 1 and "--corpus librispeech needs --librispeech DIR" in missing.stderr
    unknown = run("./run.sh", "--corpus", "timit", cwd=egs, check=False)
    assert (
        unknown.returncode == 1 and "unknown corpus timit, known are fsdd kaldi librispeech mini wsj" in unknown.stderr
    )


def test_mini_corpus_is_a_function_of_its_code(egs):
    pytest.importorskip("espeakng_loader")
    for name, jobs in (("a", 1), ("b", 2)):
        run(sys.executable, "local/make_mini.py", f"data/{name}", "--nj", jobs, "--utterances", 12, cwd=egs)
    for name in ("train", "dev", "test", "talkers"):
        a, b = (read_data_dir(egs / "data" / x / name) for x in "ab")
        assert [(u.id, u.text) for u in a] == [(u.id, u.text) for u in b]
        for u, v in zip(a, b):
            assert (egs / u.wav).read_bytes() == (egs / v.wav).read_bytes()
    texts = {name: {u.text for u in read_data_dir(egs / "data/a" / name)} for name in ("train", "dev", "test")}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["dev"] and not texts["dev"] & texts["test"]


@pytest.fixture
def fsdd(tmp_path):
    """A tree like FSDD's, of noise: three speakers, twelve recordings of each digit."""
    rng = np.random.default_rng(0)
    for speaker in ("ann", "bob", "cem"):
        for digit in range(10):
            for index in range(12):
                path = tmp_path / "fsdd" / "recordings" / f"{digit}_{speaker}_{index}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * rng.normal(size=2500), 8000)
    return tmp_path / "fsdd"


@pytest.mark.slow
def test_a_test_set_of_one_speaker_is_overlapped_by_another(egs, fsdd):
    """With --split speaker nobody but the test's only speaker was in the bank for overlapped speech."""
    options = ["--corpus", "fsdd", "--fsdd", fsdd, "--split", "speaker", "--conditions", "speech", "--stop-stage", "2"]
    run("./run.sh", *options, cwd=egs)
    talkers = {path.parent.name for path in (egs / "data/fsdd-speaker/bank_for_test/speech").rglob("*.wav")}
    assert talkers == {"ann", "bob", "cem"}
    assert len(read_data_dir(egs / "data/fsdd-speaker/noisy/test_speech")) > 10


def test_fsdd_strings(egs, fsdd, tmp_path):
    run(sys.executable, "local/make_fsdd.py", fsdd, "data/fsdd", cwd=egs)
    digits = "zero one two three four five six seven eight nine".split()
    sets = {name: read_data_dir(egs / "data/fsdd" / name) for name in ("train", "dev", "test")}
    for name, each in (("dev", 5), ("test", 5), ("train", 2 * 3)):
        words = [word for u in sets[name] for word in u.text.split()]
        assert all(words.count(digit) == 3 * each for digit in digits), "each recording as often as it should be used"
        assert {len(u.text.split()) for u in sets[name]} <= {3, 4, 5}
    for split, speakers in {
        "speaker": {"train": {"ann", "bob"}, "dev": {"ann", "bob"}, "test": {"cem"}},
        "speaker:ann": {"train": {"bob"}, "dev": {"ann"}, "test": {"cem"}},
    }.items():
        run(sys.executable, "local/make_fsdd.py", fsdd, "data/held", "--split", split, cwd=egs)
        sets = {name: read_data_dir(egs / "data/held" / name) for name in ("train", "dev", "test")}
        assert {name: {u.speaker for u in utterances} for name, utterances in sets.items()} == speakers
        assert sum(len(u.text.split()) for u in sets["test"]) == 10 * 12, "every recording of the test speaker"
        assert sum(len(u.text.split()) for u in sets["dev"]) == (2 * 10 * 5 if split == "speaker" else 10 * 12)
    done = run(sys.executable, "local/make_fsdd.py", tmp_path, "data/x", cwd=egs, check=False)
    assert done.returncode == 1 and "found 0 speakers" in done.stderr and "Traceback" not in done.stderr


def test_grammar():
    sys.path.insert(0, str(ROOT / "egs/wsj/local"))
    try:
        from grammar import sentences
    finally:
        sys.path.pop(0)
    found = sentences(3000, seed=1)
    words = {word for s in found for word in s.split()}
    assert len(set(found)) == 3000 and found[:10] == sentences(10, seed=1) and 300 < len(words) < 1000
    assert all(s == s.lower() and s.replace(" ", "").isalpha() for s in found)
