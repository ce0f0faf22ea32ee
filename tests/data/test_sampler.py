"""The order of examples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from irl.core.rng import hash_ids
from irl.data.sampler import EpochBatches, epoch_batches


@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 3), st.booleans())
def test_every_example_once(n, size, epoch, short_first):
    ids, lengths = hash_ids([str(i) for i in range(n)]), np.random.default_rng(0).integers(1, 100, n)
    batches = epoch_batches(ids, lengths, size, 1, epoch, short_first)
    assert sorted(i for b in batches for i in b) == list(range(n))
    assert max(map(len, batches)) <= size
    if short_first:
        flat = [lengths[i] for b in batches for i in b]
        assert flat == sorted(flat)
    assert batches == epoch_batches(ids, lengths, size, 1, epoch, short_first)


def test_order_changes_with_epoch_and_seed_and_keeps_lengths_together():
    n = 1000
    ids, lengths = hash_ids([str(i) for i in range(n)]), np.arange(n)
    a, b, c = (epoch_batches(ids, lengths, 8, s, e) for s, e in ((1, 1), (1, 2), (2, 1)))
    assert a != b and a != c
    spread = np.mean([max(batch) - min(batch) for batch in a])
    assert spread < 60, "a random batch of 8 spreads over about 780"


def test_batches_by_epoch():
    ids, lengths = hash_ids([str(i) for i in range(100)]), np.random.default_rng(0).integers(1, 100, 100)
    batches = EpochBatches(ids, lengths, 8, 1, short_first=True)
    for epoch in (0, 1, 1, 0, 2):
        assert batches[epoch] == epoch_batches(ids, lengths, 8, 1, epoch, short_first=epoch == 0)
    assert EpochBatches(ids, lengths, 8, 1)[0] == epoch_batches(ids, lengths, 8, 1, 0)
