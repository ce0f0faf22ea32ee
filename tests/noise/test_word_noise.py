import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.core.rng import Keys
from irl.noise.text import KINDS, WordNoise, WordNoiseConfig, bigram_counts

# Of text alone: kneser_ney, which has a test of its own.
PLAIN = tuple(kind for kind in KINDS if kind != "kneser_ney")
COUNTS = torch.tensor([50, 30, 15, 4, 1])


def drawn(kind, positions, p=0.2, epoch=0, copy=1):
    noise = WordNoise(WordNoiseConfig(kind, p), COUNTS)
    return noise, noise.draw(Keys(positions, 1, "noise", epoch, copy))


@pytest.mark.parametrize("kind", PLAIN)
def test_frequencies(kind):
    """p of the words are replaced, unigram draws have the counts' shares; both within four standard errors."""
    n = 200_000
    noise, params = drawn(kind, torch.arange(n))
    words = torch.randint(5, (n,))
    before = words.clone()
    found = noise.apply(words, params)
    assert torch.equal(words, before)
    replaced = params[0] < 0.2
    assert abs(replaced.double().mean() - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5
    assert torch.equal(found[~replaced], words[~replaced])
    new = found[replaced]
    if kind == "unigram":
        for word, count in enumerate(COUNTS.tolist()):
            q = count / 100
            assert abs((new == word).double().mean() - q) < 4 * (q * (1 - q) / len(new)) ** 0.5
        # Where words fall and which ones are independent.
        assert abs((params[1][replaced] == 0).double().mean() - (params[1][~replaced] == 0).double().mean()) < 0.01
    else:
        assert (new == 5 + (kind == "drop")).all()


@given(cut=st.integers(1, 99), rows=st.sampled_from([1, 2, 4, 5, 10]), kind=st.sampled_from(PLAIN))
def test_draws_do_not_depend_on_batches_or_steps(cut, rows, kind):
    whole = drawn(kind, torch.arange(100))[1]
    parts = [drawn(kind, part)[1] for part in torch.arange(100).split(cut)]
    assert all(torch.equal(torch.cat(part), all_) for part, all_ in zip(zip(*parts), whole))
    noise, params = drawn(kind, torch.arange(100).view(rows, -1).flatten())
    assert noise.apply(torch.zeros(rows, 100 // rows, dtype=torch.int64), params).shape == (rows, 100 // rows)


def test_redrawn_every_epoch_and_copy():
    positions = torch.arange(1000)
    masks = [drawn("blank", positions, epoch=e, copy=c)[1][0] < 0.2 for e in (0, 1) for c in (1, 2)]
    for i in range(4):
        for j in range(i):
            assert 0.6 < (masks[i] == masks[j]).double().mean() < 0.76  # 0.68 if independent


def test_none_and_all():
    words = torch.zeros(1000, dtype=torch.int64)
    for p in (0.0, 1.0):
        noise, params = drawn("blank", torch.arange(1000), p=p)
        assert (noise.apply(words, params) == len(COUNTS)).float().mean() == p


def test_kneser_ney_by_the_papers_formulas():
    """A word is replaced with p N1+(x, .) / c(x), by words with shares N1+(., x) / N1+(., .), from a plain count."""
    text = torch.tensor([0, 1, 0, 2, 0, 1, 3, 1, 0, 1, 4, 4, 4, 0])
    bigrams = list(zip(text.tolist(), text[1:].tolist()))
    follow = {x: [b for a, b in bigrams if a == x] for x in range(6)}
    before = [len({a for a, b in bigrams if b == x}) for x in range(6)]
    counts, followers, predecessors = bigram_counts(text, 6)
    assert counts.tolist() == [len(follow[x]) for x in range(6)] == [4, 4, 1, 1, 3, 0]
    assert followers.tolist() == [len(set(follow[x])) for x in range(6)] and predecessors.tolist() == before
    noise, n = WordNoise.of_text(WordNoiseConfig("kneser_ney", 0.5), text, torch.bincount(text, minlength=6)), 100_000
    by_word = []
    for word in range(6):
        words = torch.full((n,), word)
        chance, by = noise.draw(Keys(torch.arange(n), word, "noise"))
        replaced = chance < noise.rates[word]
        assert torch.equal(noise.apply(words, (chance, by)), torch.where(replaced, by, words))
        rate = 0.5 * len(set(follow[word])) / max(1, len(follow[word]))
        assert abs(replaced.double().mean() - rate) <= 4 * (rate * (1 - rate) / n) ** 0.5
        by_word.append(torch.bincount(by, minlength=6))
    shares = torch.stack(by_word).sum(0) / (6 * n)
    torch.testing.assert_close(shares, torch.tensor(before) / sum(before), rtol=0, atol=0.003)


def test_kneser_ney_needs_its_counts():
    with pytest.raises(ValueError, match="WordNoise.of_text counts them"):
        WordNoise(WordNoiseConfig("kneser_ney"), COUNTS)


@pytest.mark.parametrize("wrong", [{"p": -0.1}, {"p": 1.5}, {"kind": "typo"}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WordNoiseConfig(**wrong)
