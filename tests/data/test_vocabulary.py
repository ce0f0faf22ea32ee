"""Characters and their numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.core.errors import UserError
from irl.data import vocabulary as module
from irl.data.vocabulary import Vocabulary

TEXTS = st.lists(st.text("abé𝄞 ", max_size=5), min_size=1, max_size=7)


def test_vocabulary(tmp_path):
    vocabulary = Vocabulary.from_texts(["one two", "abc"])
    assert vocabulary.tokens == ["<blank>", "<unk>", "<space>", *"abcenotw", "<sos/eos>"] and vocabulary.eos == 11
    numbers = vocabulary.encode("two a", "here")
    assert vocabulary.decode([*numbers, vocabulary.eos]) == "two a"
    vocabulary.write(tmp_path / "tokens.txt")
    assert Vocabulary.read(tmp_path / "tokens.txt").tokens == vocabulary.tokens
    with pytest.raises(UserError, match=r"utt1: unknown character 'é' \(U\+00E9\)"):
        vocabulary.encode("é", "utt1")
    with pytest.raises(UserError, match="no such vocabulary; run stage 3"):
        Vocabulary.read(tmp_path / "none")
    with pytest.raises(UserError, match="must begin with"):
        Vocabulary(["a", "b"])


@given(TEXTS, st.integers(1, 4), st.booleans())
def test_all_at_once_equals_one_after_another(texts, block, unknown):
    vocabulary = Vocabulary.from_texts(["abé 𝄞"])
    texts = [*texts, "a\nb", "ax"] if unknown else texts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        if unknown:  # the end of a text in the table is no character of one
            with pytest.raises(UserError, match=rf"text {len(texts) - 2}: unknown character '\\n'"):
                vocabulary.encode_all(texts, "text {}".format)
            return
        found = vocabulary.encode_all(texts, "text {}".format)
    expected = [[*vocabulary.encode(text, ""), vocabulary.eos] for text in texts]
    y, lens = found.batch(list(range(len(texts))))
    assert [row[:n].tolist() for row, n in zip(y, lens)] == expected


def test_no_texts_are_no_sequences():
    assert len(Vocabulary.from_texts(["a"]).encode_all([], str).lengths) == 0
