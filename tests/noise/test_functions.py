"""The noises that `irl.noise` offers: one call each, equal to the noises of the recipes."""

import copy
import pickle

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from irl.core.errors import UserError
from irl.core.output import Output
from irl.core.rng import Keys
from irl.noise import (
    additive,
    audio,
    babble,
    channel,
    fgsm,
    image_noise,
    one_of,
    pgd,
    reverb,
    telephone,
    volume,
    word_noise,
)
from irl.noise.adversarial import Attack, AttackConfig
from irl.noise.bank import Bank, RIRBank
from irl.noise.image import ImageNoise, ImageNoiseConfig, lighting_of
from irl.noise.snr import SNRS, Between
from irl.noise.text import WordNoise, WordNoiseConfig

RATE = 8000
IDS = ["utt-1", "utt-2", "utt-3"]
LENS = torch.tensor([2000, 1500, 700])


@pytest.fixture
def waves():
    torch.manual_seed(0)
    x = 0.1 * torch.randn(3, 2000)
    return x.masked_fill(torch.arange(2000) >= LENS[:, None], 0)


@pytest.fixture(scope="module")
def wave_noises(folders):
    return {
        "additive": additive(folders / "noises", RATE, snr=(0, 15)),
        "babble": babble(folders / "talkers", RATE, snr=5),
        "reverb": reverb(folders / "rooms", RATE),
        "volume": volume(),
        "telephone": telephone(RATE),
    }


def image_noises():
    torch.manual_seed(0)
    colors = torch.rand(4, 3, 5, 5)
    return {
        "colours": image_noise(0.3, 0.2, 0.1, 0.1, lighting=0.1, gaussian=0.02, scale=1, colors=colors),
        "normalised": image_noise(0.3, gaussian=0.1, scale=1, mean=0.5, std=(0.2, 0.25, 0.3)),
        "augmix": image_noise(augmix=0.3, scale=1),
    }


def all_noises(wave_noises):
    """Each noise with a batch that it takes."""
    torch.manual_seed(0)
    waves, images, tokens = 0.1 * torch.randn(3, 2000), torch.rand(3, 3, 6, 6), torch.randint(5, 90, (3, 40))
    yield from ((name, noise, waves, LENS) for name, noise in wave_noises.items())
    yield from ((name, noise, images, None) for name, noise in image_noises().items())
    yield "mask", word_noise(0.5, mask_id=4, protect=[0, 1]), tokens, torch.tensor([40, 30, 20])
    yield "unigram", word_noise(0.5, counts=torch.ones(90)), tokens, torch.tensor([40, 30, 20])


def keys(ids=IDS, epoch=2, copy=1, seed=7):
    return Keys(ids, seed, "noise", epoch, copy)


def test_waves_equal_the_noises_of_the_recipes(folders, waves, wave_noises):
    bank = Bank(folders / "noises", RATE)
    own = {
        "additive": audio.Additive(bank, snrs=Between(0, 15)),
        "babble": audio.Additive(Bank(folders / "talkers", RATE, {"speech": "."}), ("babble",), (5.0,)),
        "reverb": audio.Reverberation(RIRBank(folders / "rooms", RATE)),
        "volume": channel.Volume(0.125, 2.0),
        "telephone": channel.Telephone(RATE),
    }
    for name, noise in wave_noises.items():
        expected = own[name].apply(waves, LENS, own[name].draw(keys(), LENS, ()))
        assert torch.equal(noise(waves, LENS, IDS, epoch=2, seed=7), expected), name
    assert additive(folders / "noises", RATE).noise.draw(keys(), LENS).snr.tolist()[0] in SNRS["noise"]


def test_images_equal_the_noises_of_the_recipes():
    torch.manual_seed(0)
    colors, x = torch.rand(4, 3, 5, 5), torch.rand(3, 3, 6, 6)
    directions = lighting_of(torch.cov(255 * colors.movedim(1, -1).reshape(-1, 3).T, correction=0))
    own = ImageNoise(ImageNoiseConfig(0.3, 0.2, 0.1, 0.1, 0.1, gaussian=0.02 * 255), directions)
    expected = own.apply(255 * x, own.draw(keys(), (6, 6))) / 255
    noises = image_noises()
    torch.testing.assert_close(noises["colours"](x, ids=IDS, epoch=2, seed=7), expected, atol=1e-6, rtol=0)
    # The same pixels on another scale, or normalised, are changed alike.
    mean, std = torch.tensor([0.5] * 3)[:, None, None], torch.tensor([0.2, 0.25, 0.3])[:, None, None]
    plain = image_noise(0.3, gaussian=0.1, scale=1)(x, ids=IDS)
    normalised = noises["normalised"]((x - mean) / std, ids=IDS) * std + mean
    torch.testing.assert_close(normalised, plain, atol=1e-5, rtol=0)
    bytes_ = image_noise(0.3, gaussian=25.5, scale=255)(255 * x, ids=IDS) / 255
    torch.testing.assert_close(bytes_, plain, atol=1e-5, rtol=0)
    flat = image_noise(gaussian=0.1, scale=1)(torch.full((50, 3, 9, 9), 0.5), ids=range(50))
    assert flat.std() == pytest.approx(0.1, rel=0.05)
    assert image_noise(1.0, scale=1, clip=True)(x, ids=IDS).max() <= 1


class Model(nn.Module):
    def __init__(self, named=False):
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.named = nn.Linear(48, 4), named

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        return Output(logits, {}) if self.named else logits


def test_attacks_equal_the_attacks_of_the_recipes():
    torch.manual_seed(0)
    x, y = torch.rand(3, 3, 4, 4), torch.tensor([0, 1, 2])
    mean, std = torch.zeros(3), torch.full((3,), 255.0)
    for kind, attack in (("fgsm", fgsm), ("pgd", pgd)):
        config = AttackConfig(kind, 8.0, units="pixels", clip=True)
        expected = Attack(config, mean, std).apply(x, y, Model(named=True), keys())
        for model in (Model(), Model(named=True)):
            found = attack(model, 8 / 255, scale=1)(x, ids=IDS, epoch=2, seed=7, y=y)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
            assert 0 < (found - x).abs().max() <= 8 / 255 + 1e-6
    gray = torch.rand(2, 1, 48, 1)
    assert (fgsm(Model(), 1.0, scale=255)(gray * 255, y=[0, 1], ids=[0, 1]) != gray * 255).any()
    one = fgsm(Model(), 0.1, scale=1, mean=[0.5] * 3, std=[0.2] * 3)((x[0] - 0.5) / 0.2, y=y[:1], ids=[0])
    assert one.shape == x[0].shape and ((one - (x[0] - 0.5) / 0.2).abs() <= 0.5 + 1e-5).all()


def test_tokens_are_masked_or_replaced_and_special_ones_kept():
    torch.manual_seed(0)
    x = torch.randint(0, 50, (3, 4000))
    special = (x < 3) | (torch.arange(4000) >= torch.tensor([4000, 3000, 10])[:, None])
    masked = word_noise(0.3, mask_id=77, protect=[0, 1, 2])(x, [4000, 3000, 10], IDS)
    assert (masked[special] == x[special]).all() and set(masked[masked != x].tolist()) == {77}
    assert (masked == 77)[~special].double().mean() == pytest.approx(0.3, abs=0.03)
    for counts in (np.ones(50, int), torch.full((50,), 0.02), [1 / 50] * 50):
        drawn = word_noise(1.0, counts=counts, protect=[0, 1, 2])(x, ids=IDS)
        assert set(drawn[x >= 3].tolist()) == set(range(3, 50)) and (drawn[x < 3] == x[x < 3]).all()
    # One position, one draw of the recipes' noise.
    own = WordNoise(WordNoiseConfig("blank", 0.3), torch.ones(50), blank=77)
    expected = own.apply(x, own.draw(Keys(IDS, 0, "noise", 0, 1), 4000))
    assert torch.equal(word_noise(0.3, mask_id=77)(x, ids=IDS), expected)


def test_laws_of_every_noise(wave_noises):
    for name, noise, x, lens in all_noises(wave_noises):
        before = x.clone()
        call = lambda ids=IDS, **others: noise(x, lens, ids, **others)  # noqa: E731, B023
        y = call()
        assert torch.equal(x, before) and y.shape == x.shape and y.dtype == x.dtype and not torch.equal(x, y), name
        assert torch.equal(call(), y), name
        others = [call(epoch=1), call(copy=2), call(seed=1), call(ids=[1, 2, 3])]
        assert all(not torch.equal(other, y) for other in others), name
        # Alone, in another order, as an array, and after a set_epoch.
        for i, n in enumerate(LENS.tolist() if lens is LENS else [x.shape[1]] * 3 if lens is None else lens.tolist()):
            one = x[i, :n] if lens is not None else x[i]
            alone = noise(one.numpy(), ids=IDS[i])
            assert isinstance(alone, np.ndarray) and alone.dtype == one.numpy().dtype
            np.testing.assert_allclose(alone, (y[i, :n] if lens is not None else y[i]).numpy(), atol=1e-6)
        noise.set_epoch(1)
        assert torch.equal(noise(x, lens, IDS), others[0]), name
        for twin in (pickle.loads(pickle.dumps(noise)), copy.deepcopy(noise)):
            assert torch.equal(twin(x, lens, IDS), others[0]), name
        noise.set_epoch(0)
        assert torch.equal(noise(x, lens, np.array(IDS)), y)
        by_number = noise(x, lens, [5, 6, 7])
        assert torch.equal(noise(x, lens, torch.tensor([5, 6, 7])), by_number)


def test_without_ids_each_example_has_draws_of_its_own(wave_noises, waves):
    noise = wave_noises["additive"]
    y = noise(waves, LENS)
    assert torch.equal(noise(waves.flip(0), LENS.flip(0)), y.flip(0)), "whatever the order of the batch"
    assert torch.equal(noise(waves[1, :1500]), y[1, :1500]), "and its padding"
    gains = noise.noise.draw(Keys([1], 0), LENS[:1])
    assert gains.snr.numel() == 1 and (y != waves).any(1).all()


def test_a_forgotten_epoch_is_said_once(caplog):
    x, noise = torch.rand(4, 20), volume(0.2, 3.0)
    with caplog.at_level("WARNING", "irl"):
        for _ in range(2):  # the second epoch is set, or named
            noise(x, ids=[1, 2, 3, 4]), noise(x, ids=[5, 6, 7, 8]), noise(x, ids=[1, 2, 3, 4], copy=2)
            noise.set_epoch(1)
        noise(x, ids=[1, 2, 3, 4], epoch=1), noise(x, ids=[5, 6, 7, 8])
        assert not caplog.records
        for _ in range(3):
            noise(x, ids=[4, 3, 2, 1])
        (record,) = caplog.records
        assert "noise of epoch 1 again" in record.message and "set_epoch" in record.message


def test_realised_snr(folders, waves):
    for snr, low, high in ((7, 7, 7), ((-5, 5), -5, 5)):
        y = additive(folders / "noises", RATE, snr=snr)(waves, LENS, IDS)
        for a, b, n in zip(waves.double(), y.double(), LENS.tolist()):
            realised = float(10 * torch.log10(a[:n].square().mean() / (b - a)[:n].square().mean()))
            assert low - 0.01 <= realised <= high + 0.01


def test_clips_padded_with_silence_are_heard(tmp_path, waves):
    padded = np.zeros(80000)
    padded[3000:3500] = 0.1 * np.random.randn(500)
    soundfile.write(tmp_path / "bark.wav", padded, RATE)
    y = additive(tmp_path, RATE, snr=3)(waves, LENS, IDS)
    for a, b, n in zip(waves, y, LENS.tolist()):
        assert float(10 * torch.log10(a[:n].square().mean() / (b - a)[:n].square().mean())) == pytest.approx(
            3, abs=0.01
        )
    soundfile.write(tmp_path / "bark.wav", np.zeros(8000), RATE)
    with pytest.raises(UserError, match="bark.wav: holds nothing but silence"):
        additive(tmp_path, RATE)(waves, LENS, IDS)


def test_composition_goes_from_left_to_right(waves, wave_noises):
    up, line = volume(4, 4), wave_noises["telephone"]
    chain, part = up | line, lambda noise, x, i: noise.apply(x, LENS, keys().sub(str(i)))  # noqa: E731
    call = lambda noise: noise(waves, LENS, IDS, epoch=2, seed=7)  # noqa: E731
    assert torch.equal(call(chain), part(line, part(up, waves, 0), 1))
    assert torch.equal(call(line | up), part(up, part(line, waves, 0), 1)) and not torch.equal(
        call(line | up), call(chain)
    )
    add = wave_noises["additive"]
    assert torch.equal(call((add | up) | line), call(add | (up | line))), "brackets do not matter"
    choice = audio.OneOf((up.noise, line.noise))
    expected = choice.apply(waves, LENS, choice.draw(keys(), LENS))
    assert torch.equal(call(one_of(up, line)), expected)
    many = one_of(volume(2, 2), volume(0.5, 0.5) | volume(0.5, 0.5))
    levels = many(torch.full((400, 4), 0.25), ids=range(400))[:, 0]
    assert set(levels.tolist()) == {0.5, 0.0625} and 150 < (levels == 0.5).sum() < 250
    with pytest.raises(ValueError, match="noises of waves and of token ids cannot be composed"):
        up | word_noise(mask_id=1)
    with pytest.raises(ValueError, match="rate: the composed noises have 8000 and 16000 Hz"):
        line | telephone()
    with pytest.raises(ValueError, match="one_of: expected noises of irl.noise"):
        one_of()
    with pytest.raises(TypeError):
        up | 3
