"""Many strings in one array."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.data.strings import Strings

TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), max_size=8)


@given(TEXTS, TEXTS)
def test_is_a_sequence_as_a_list_is(texts, others):
    found = Strings(texts)
    assert list(found) == texts and len(found) == len(texts) and list(pickle.loads(pickle.dumps(found))) == texts
    assert [found[i] for i in range(-len(texts), len(texts))] == [*texts, *texts]
    assert found[1:4] == texts[1:4] and found[::-2] == texts[::-2]
    assert (found == Strings(others)) == (texts == others)
    for i in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError, match=f"below {len(texts)}, found"):
            found[i]
