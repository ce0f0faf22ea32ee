import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.data.ragged import Ragged

SEQUENCES = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5), min_size=1, max_size=6)


@given(SEQUENCES, st.data())
def test_what_goes_in_comes_out(sequences, data):
    found = Ragged(np.concatenate([np.array(s) for s in sequences]), np.array([len(s) for s in sequences]))
    assert found.lengths.tolist() == [len(s) for s in sequences]
    rows = data.draw(st.lists(st.integers(0, len(sequences) - 1), min_size=1, max_size=4))
    y, lens = found.batch(rows)
    assert y.dtype == torch.int64 and lens.tolist() == [len(sequences[i]) for i in rows]
    for row, i, n in zip(y, rows, lens.tolist()):
        assert row[:n].tolist() == sequences[i] and (row[n:] == -1).all()
