import pytest
import torch

from irl.core.rng import Keys
from irl.noise.spec_augment import MASKS, MEL_SHARE, TIME_SHARE, SpecAugment


def example(n=6, frames=50, mels=10, stack=2):
    torch.manual_seed(0)
    lens = torch.randint(1, frames + 1, (n,))
    lens[0] = frames
    x = torch.randn(n, frames, mels * stack)
    x[torch.arange(frames)[None] >= lens[:, None]] = 0
    return x, lens, Keys(torch.arange(n), seed=3, stream="t", epoch=1, copy=1)


def plain(x, lens, params, mels):
    """A loop over utterances and masks."""
    y = x.clone()
    for i, n in enumerate(lens.tolist()):
        mean = x[i, :n].double().mean(0).float()
        for j in range(MASKS):
            for t in range(int(params.time_begin[i, j]), int(params.time_end[i, j])):
                y[i, t] = mean
            for mel in range(int(params.mel_begin[i, j]), int(params.mel_end[i, j])):
                for channel in range(mel, x.shape[2], mels):
                    y[i, :n, channel] = mean[channel]
    return y


def test_masks_equal_a_plain_loop_and_leave_the_input_alone():
    x, lens, keys = example()
    noise = SpecAugment(10)
    params = noise.draw(keys, lens)
    before = x.clone()
    found = noise.apply(x, lens, params)
    torch.testing.assert_close(found, plain(x, lens, params, 10))
    assert torch.equal(x, before)
    assert not torch.equal(found, x)


def test_masks_lie_inside_the_utterance_and_are_no_wider_than_allowed():
    noise = SpecAugment(80)
    lens = torch.randint(1, 400, (500,))
    p = noise.draw(Keys(torch.arange(500), seed=1), lens)
    for begin, end, size, share in (
        (p.time_begin, p.time_end, lens[:, None], TIME_SHARE),
        (p.mel_begin, p.mel_end, torch.tensor([[80]]), MEL_SHARE),
    ):
        assert (begin >= 0).all() and (end >= begin).all() and (end <= size).all()
        assert (end - begin <= share * size).all()
    # The widest mask of 27 channels and the one of none are both drawn.
    widths = (p.mel_end - p.mel_begin).unique()
    assert widths.tolist() == list(range(28))


def test_draws_belong_to_the_example_alone():
    x, lens, keys = example()
    noise = SpecAugment(10)
    whole = noise.apply(x, lens, noise.draw(keys, lens))
    for i in range(len(x)):
        one = Keys(keys.ids[i : i + 1], 3, "t", 1, 1)
        n = lens[i : i + 1]
        alone = noise.apply(x[i : i + 1], n, noise.draw(one, n))
        torch.testing.assert_close(alone[0], whole[i])
    other = noise.draw(Keys(keys.ids, 3, "t", 1, copy=2), lens)
    assert not torch.equal(other.mel_begin, noise.draw(keys, lens).mel_begin)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_utterances_too_short_for_a_time_mask_get_none(frames):
    x, _, keys = example(frames=frames)
    lens = torch.full((len(x),), frames)
    p = SpecAugment(10).draw(keys, lens)
    assert torch.equal(p.time_begin, p.time_end)
