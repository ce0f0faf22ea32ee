import os

import pytest
import torch

from irl.core.errors import UserError
from irl.data.text import WordVocabulary, tracks, words_of


def test_every_line_ends_in_eos(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" the cat \n\nsat  down\n", encoding="utf-8")
    assert list(words_of(path)) == [
        (1, "the"),
        (1, "cat"),
        (1, "<eos>"),
        (2, "<eos>"),
        (3, "sat"),
        (3, "down"),
        (3, "<eos>"),
    ]
    path.write_text(" the cat \n\nsat  down", encoding="utf-8")
    assert len(list(words_of(path))) == 7, "with or without a newline at the end"
    # Only newlines end lines: a form feed or a Unicode separator within one does not.
    path.write_text("a\x0cb\u2028c\n", encoding="utf-8")
    assert [line for line, _ in words_of(path)] == [1, 1, 1, 1]


def test_vocabulary_is_that_of_training_in_order_of_counts(tmp_path):
    train, test = tmp_path / "train", tmp_path / "test"
    train.write_text("b a a <unk>\nc a b\n")
    vocabulary = WordVocabulary.of(word for _, word in words_of(train))
    assert vocabulary.words == ["a", "<eos>", "b", "<unk>", "c"] and vocabulary.counts == [3, 2, 2, 1, 1]
    test.write_text("a dog c\n")
    assert vocabulary.encode(test).tolist() == [0, 3, 4, 1]
    vocabulary.write(tmp_path / "words.txt")
    again = WordVocabulary.read(tmp_path / "words.txt")
    assert (again.words, again.counts) == (vocabulary.words, vocabulary.counts)


def test_rare_words_are_unknown(tmp_path):
    train = tmp_path / "train"
    train.write_text("b a a <unk> c a b d\n")
    words = [word for _, word in words_of(train)]
    vocabulary = WordVocabulary.of(words, min_count=2)
    # <eos> stays, though it stands there once; <unk> counts for itself and for the two that it replaces.
    assert dict(zip(vocabulary.words, vocabulary.counts)) == {"a": 3, "<unk>": 3, "b": 2, "<eos>": 1}
    assert vocabulary.encode(train).bincount().tolist() == vocabulary.counts


def test_bad_files_are_one_line(tmp_path):
    path, train = tmp_path / "x.txt", tmp_path / "train.txt"
    train.write_text("a b\n")
    vocabulary = WordVocabulary.of(word for _, word in words_of(train))
    with pytest.raises(UserError, match="x.txt: no such file"):
        vocabulary.encode(path)
    path.write_text("\n \n")
    with pytest.raises(UserError, match="x.txt: empty"):
        vocabulary.encode(path)
    path.write_bytes(b"a b\na \xff\n")
    with pytest.raises(UserError, match="x.txt:2: not UTF-8 text: invalid start byte at byte 2"):
        vocabulary.encode(path)
    path.write_text("a b\nb a\na dog\n")
    with pytest.raises(UserError, match="x.txt:3: 'dog' is not in the training text, which has no <unk> for it"):
        vocabulary.encode(path)
    with pytest.raises(UserError, match="no such vocabulary; run stage 3"):
        WordVocabulary.read(tmp_path / "none")
    for damaged in ("a\n", "a 1\na 2\n<eos> 1\n", "a 1\n"):
        path.write_text(damaged)
        with pytest.raises(UserError):
            WordVocabulary.read(path)


def test_tracks():
    assert tracks(torch.arange(11), 3, 2, "x").tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    with pytest.raises(UserError, match="x: 11 tokens in 3 rows are 3 each, fewer than bptt 3 and one more"):
        tracks(torch.arange(11), 3, 3, "x")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_a_word(tmp_path, encoding):
    path = tmp_path / "x.txt"
    path.write_text("the cat\n", encoding=encoding)
    assert [word for _, word in words_of(path)] == ["the", "cat", "<eos>"]
    # As files that were joined.
    path.write_text("\ufeffthe\n\ufeffcat\n", encoding="utf-8")
    assert [word for _, word in words_of(path)] == ["the", "<eos>", "cat", "<eos>"]


def test_what_is_no_text_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path, "a folder"), (tmp_path / "pipe", "a pipe or a device")):
        with pytest.raises(UserError, match=f"{message}, expected a text file"):
            list(words_of(path))
    (tmp_path / "x").write_bytes(b"a\nb\0\n")
    with pytest.raises(UserError, match="x:2: not text: it holds a NUL character"):
        list(words_of(tmp_path / "x"))
