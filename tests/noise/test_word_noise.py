import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.core.rng import Keys
from irl.noise.text import KINDS, WordNoise, WordNoiseConfig

COUNTS = torch.tensor([50, 30, 15, 4, 1])


def drawn(kind, positions, p=0.2, epoch=0, copy=1):
    noise = WordNoise(WordNoiseConfig(kind, p), COUNTS)
    return noise, noise.draw(Keys(positions, 1, "noise", epoch, copy))


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies(kind):
    """p of the words are replaced, unigram draws have the counts' shares; both within four standard errors."""
    n = 200_000
    noise, params = drawn(kind, torch.arange(n))
    words = torch.randint(5, (n,))
    before = words.clone()
    found = noise.apply(words, params)
    assert torch.equal(words, before)
    share = params[0].double().mean()
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5
    assert torch.equal(found[~params[0]], words[~params[0]])
    new = found[params[0]]
    if kind == "unigram":
        for word, count in enumerate(COUNTS.tolist()):
            q = count / 100
            assert abs((new == word).double().mean() - q) < 4 * (q * (1 - q) / len(new)) ** 0.5
        # Where words fall and which ones are independent.
        assert abs((params[1][params[0]] == 0).double().mean() - (params[1][~params[0]] == 0).double().mean()) < 0.01
    else:
        assert (new == 5 + (kind == "drop")).all()


@given(cut=st.integers(1, 99), rows=st.sampled_from([1, 2, 4, 5, 10]), kind=st.sampled_from(KINDS))
def test_draws_do_not_depend_on_batches_or_steps(cut, rows, kind):
    whole = drawn(kind, torch.arange(100))[1]
    parts = [drawn(kind, part)[1] for part in torch.arange(100).split(cut)]
    assert all(torch.equal(torch.cat(part), all_) for part, all_ in zip(zip(*parts), whole))
    noise, params = drawn(kind, torch.arange(100).view(rows, -1).flatten())
    assert noise.apply(torch.zeros(rows, 100 // rows, dtype=torch.int64), params).shape == (rows, 100 // rows)


def test_redrawn_every_epoch_and_copy():
    positions = torch.arange(1000)
    masks = [drawn("blank", positions, epoch=e, copy=c)[1][0] for e in (0, 1) for c in (1, 2)]
    for i in range(4):
        for j in range(i):
            assert 0.6 < (masks[i] == masks[j]).double().mean() < 0.76  # 0.68 if independent


def test_none_and_all():
    assert not drawn("blank", torch.arange(1000), p=0.0)[1][0].any()
    assert drawn("unigram", torch.arange(1000), p=1.0)[1][0].all()


@pytest.mark.parametrize("wrong", [{"p": -0.1}, {"p": 1.5}, {"kind": "typo"}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WordNoiseConfig(**wrong)
