"""What a recorder and a telephone line do."""

import numpy as np
import pytest
import torch

from irl.core.rng import Keys, hash_ids
from irl.noise.channel import Telephone, Volume


def test_volume_is_a_recorders():
    x, lens, key = 0.1 * torch.randn(1, 5000), torch.tensor([5000]), Keys(hash_ids(["utt"]), 1, "noise")
    up, down = Volume(4, 4), Volume(0.3, 0.3)
    y = up.apply(x * 5, lens, up.draw(key, lens))
    assert y.max() == 1 - 2**-15 and y.min() == -1
    z = down.apply(x, lens, down.draw(key, lens))
    assert torch.equal(z * 32768, (z * 32768).round()) and (z - 0.3 * x).abs().max() <= 2**-16 + 1e-7


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("codec", ["ULAW", "ALAW", "GSM610"])
def test_telephone_keeps_the_band_and_the_time(rate, codec):
    line = Telephone(rate, (codec,))
    t = np.arange(rate) / rate

    def through(frequency):
        x = torch.from_numpy(0.3 * np.sin(2 * np.pi * frequency * t).astype(np.float32))[None]
        return x[0].numpy(), line.apply(x, torch.tensor([rate]), [codec])[0].numpy()

    def gain(frequency):
        x, y = through(frequency)
        middle = slice(rate // 4, 3 * rate // 4)
        return np.linalg.norm(y[middle]) / np.linalg.norm(x[middle])

    assert 0.6 < gain(1000) < 1.2 and gain(60) < 0.1
    if rate == 16000:
        assert gain(6000) < 0.1, "nothing above 4 kHz"
