"""irl validate speech: everything that is wrong or strange, at once, before anything is made of the data."""

import argparse
import logging

import numpy as np
import pytest
import soundfile

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.data.kaldi import Utterance, read_table, write_data_dir
from irl.speech import validate

RATE = 8000
CONFIG = """
task: speech
train_dir: x
dev_dir: x
vocabulary: x
statistics: x
features: {rate: 8000, mels: 10, stack: 2}
model: {encoder_layers: 2, subsampling: [2, 1]}
"""


def directory(folder, texts, seed=0, speaker="s", seconds=0.5):
    """Utterances of noise, one for each text."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, text in enumerate(texts):
        path = folder / f"{i:02d}.wav"
        folder.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * rng.uniform(-1, 1, int(seconds * RATE)), RATE)
        rows.append(Utterance(f"{speaker}-{i:02d}", str(path), speaker, text))
    write_data_dir(folder, rows)
    return folder


def check(*paths, config=None, no_text=False):
    return list(
        validate.validate(argparse.Namespace(paths=paths, rate=RATE, no_text=no_text, allow_pipes=False, config=config))
    )


def test_all_bad_utterances_are_named_at_once(tmp_path, caplog):
    good = directory(tmp_path / "good", ["a"] * 2, seed=1)
    folder = directory(tmp_path / "bad", ["a"] * 30)
    for i in range(25):
        (folder / f"{i:02d}.wav").write_bytes((folder / f"{i:02d}.wav").read_bytes()[:-10])
    with pytest.raises(
        UserError, match=r"bad: 25 of 30 utterances cannot be used, the first: utterance s-00 .*cut off"
    ):
        check(folder, good)
    named = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(named) == 20 and all("cut off" in line and "\n" not in line for line in named)
    assert (good / "utt2num_samples").exists() and not (folder / "utt2num_samples").exists()


def test_silence_repetitions_and_shared_speakers_are_named(tmp_path, caplog):
    train = directory(tmp_path / "train", ["a", "a", "a"])
    test = directory(tmp_path / "test", ["a", "a", "a"], seed=1)
    (test / "01.wav").write_bytes((train / "02.wav").read_bytes())
    soundfile.write(test / "02.wav", np.zeros(RATE), RATE)
    first, second = check(train, test)
    assert first == f"{train}: 3 utterances, 1 speakers, 0.00 h"
    assert second == f"{test}: 3 utterances, 1 speakers (1 also in {train}: s), 0.00 h"
    assert f"{test}: 1 utterances are digital silence: s-02" in caplog.messages
    assert f"{test}: 1 recordings are also in {train}: s-01 = s-02" in caplog.messages
    assert read_table(test / "utt2num_samples") == {"s-00": "4000", "s-01": "4000", "s-02": "8000"}


def test_a_directory_may_be_read_only(tmp_path, monkeypatch, caplog):
    folder = directory(tmp_path / "a", ["a"])

    def write(path, content):
        raise UserError(f"{path}: cannot be written: Read-only file system")

    monkeypatch.setattr(atomic_io, "write", write)
    assert len(check(folder)) == 1
    assert "Read-only file system; each later stage takes the lengths from the recordings" in caplog.text
    # What it says is right, or an error.
    (folder / "utt2num_samples").write_text("s-00 4000\n")
    assert len(check(folder)) == 1
    (folder / "utt2num_samples").write_text("s-00 4001\n")
    with pytest.raises(UserError, match="Read-only file system"):
        check(folder)


def test_strange_characters_are_named(tmp_path, caplog):
    texts = ["it's caf\u00e9", "it\u2019s cafe\u0301", "a\u200bb it's", "it\u2019s a q b"]
    check(directory(tmp_path / "a", texts))
    notes = "\n".join(caplog.messages)
    assert "text: characters that cannot be seen: '\\u200b' (U+200B zero width space) in" in notes
    kinds = "\"'\" (U+0027 apostrophe) in 2, '\u2019' (U+2019 right single quotation mark) in 2 texts"
    assert f"2 kinds of apostrophe: {kinds}" in notes
    assert "one character (NFC) in 1 texts, such as" in notes and "and two (NFD) in 1, such as" in notes
    assert (
        "a/text: characters of a single utterance: " in notes and "'q' (U+0071 latin small letter q) in s-03" in notes
    )


def test_ordinary_texts_have_no_notes(tmp_path, caplog):
    check(directory(tmp_path / "a", ["the caf\u00e9", "the caf\u00e9"]), directory(tmp_path / "b", ["the"], seed=1))
    assert not caplog.messages


def test_unknown_characters_are_found_before_training(tmp_path, caplog):
    train, test = directory(tmp_path / "a", ["abc", "abc"]), directory(tmp_path / "b", ["abd"], seed=1)
    message = f"{test}/text: characters that {train} does not have: 'd' (U+0064 latin small letter d) in s-00"
    check(train, test)
    assert message in caplog.messages
    (tmp_path / "c.yaml").write_text(CONFIG)
    with pytest.raises(UserError) as error:
        check(train, test, config=[str(tmp_path / "c.yaml")])
    assert str(error.value) == message


def test_texts_that_ctc_cannot_align_are_named(tmp_path, caplog):
    # 0.5 s are 48 frames of 10 ms, 24 of two stacked, 12 after subsampling.
    folder = directory(tmp_path / "a", ["ab" * 6, "ab" * 6 + "a", "abb" * 4, "ab"])
    (tmp_path / "c.yaml").write_text(CONFIG)
    check(folder, config=[str(tmp_path / "c.yaml"), "seed=2"])
    assert caplog.messages == [
        f"{folder}: 2 utterances have no CTC alignment, and CTC learns nothing of them: "
        "s-01 (12 frames, needs 13), s-02 (12 frames, needs 16)"
    ]
