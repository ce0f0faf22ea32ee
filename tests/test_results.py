import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.results import counts, pack


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=300))
def test_counts_survive_packing(values):
    assert counts(pack(np.array(values))).tolist() == values == counts(values).tolist()


def test_counts_that_do_not_fit_are_refused():
    for wrong in ([-1], [65536]):
        with pytest.raises(ValueError, match="0 to 65535"):
            pack(np.array(wrong))
