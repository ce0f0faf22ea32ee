"""What the noises of `irl.noise`, and the classes behind them, refuse in one line."""

import numpy as np
import pytest
import torch
from torch import nn

from irl.core.errors import UserError
from irl.core.rng import Keys
from irl.noise import additive, babble, fgsm, image_noise, reverb, telephone, volume, word_noise
from irl.noise.adversarial import Attack, AttackConfig
from irl.noise.corruptions import CORRUPTIONS
from irl.noise.image import ImageNoise, ImageNoiseConfig
from irl.noise.text import WordNoise, WordNoiseConfig

WRONG_CALLS = [
    (dict(x=torch.zeros(2, 3, 4)), r"expected waves \(T,\) or \(N, T\), found \[2, 3, 4\]"),
    (dict(x=[[0.1, 0.2], [0.1]]), "found ragged lists"),
    (
        dict(x=np.zeros(5, np.int16)),
        "expected waves of floating-point numbers, found torch.int16; divide 16-bit samples",
    ),
    (dict(x=1000 * torch.randn(2, 50)), r"expected samples in \[-1, 1\], found \d+.*; divide 16-bit ones by 32768"),
    (dict(lens=[0.5, 1.0]), r"lens: expected whole numbers \(2,\) from 0 to 50, found \[0.5, 1.0\]"),
    (dict(lens=[50, 51]), "lens: expected whole numbers"),
    (dict(lens=[50]), "lens: expected whole numbers"),
    (dict(lens=torch.ones(2, dtype=torch.bool)), "lens: expected whole numbers"),
    (dict(ids=["a"]), "ids: expected 2, one for each example, found 1"),
    (dict(ids=[0.5, 1.5]), "ids: expected strings or whole numbers"),
    (dict(epoch=-1), "epoch: expected a whole number from 0 on, found -1"),
    (dict(epoch=0.5), "epoch: expected a whole number from 0 on, found 0.5"),
    (dict(copy=-1), "copy: expected a whole number from 0 on"),
]


@pytest.mark.parametrize("wrong, message", WRONG_CALLS)
def test_bad_inputs_are_refused(wrong, message):
    arguments = {"x": torch.zeros(2, 50), "ids": [0, 1], **wrong}
    with pytest.raises(ValueError, match=message) as error:
        volume(2, 3)(**arguments)
    assert "\n" not in str(error.value)


def test_images_on_another_scale_are_refused():
    x = torch.rand(2, 3, 8, 8)
    for noise, images in (
        (image_noise(0.5, scale=255), x),
        (image_noise(0.5, scale=255), (x - 0.5) / 0.25),
        (image_noise(0.5, scale=1), 255 * x),
        (image_noise(0.5, scale=1, mean=0.5, std=0.25), 255 * x),
    ):
        with pytest.raises(ValueError, match="expected pixels of 0 to .* scale=1 for images in"):
            noise(images)
    black = torch.zeros(2, 3, 8, 8)
    black[0, 0, 0, 0] = 1
    image_noise(0.5, scale=255)(black)
    with pytest.raises(ValueError, match=r"expected images of 3 colours, .*found \[2, 8, 8, 3\]"):
        image_noise(0.5, scale=1)(x.movedim(1, -1))
    with pytest.raises(ValueError, match="lens: expected none for images"):
        image_noise(0.5, scale=1)(x, lens=[8, 8])
    with pytest.raises(ValueError, match="y: an attack needs the label of each of the 2 images"):
        fgsm(nn.Linear(1, 1), 0.1, scale=1)(x)


def test_the_classes_refuse_what_would_do_nothing_or_something_else():
    x = torch.rand(4, 3, 8, 8)
    with pytest.raises(ValueError, match="lighting 0.1 without directions changes nothing"):
        ImageNoise(ImageNoiseConfig(brightness=0, contrast=0))
    for settings in ({"clip": True}, {"gaussian": 8.0}):
        noise = ImageNoise(ImageNoiseConfig(lighting=0, **settings))
        with pytest.raises(ValueError, match="expected pixels of 0 to 255, but the largest value is "):
            noise.apply(x, noise.draw(Keys(range(4), 7, "noise", 2, 1), (8, 8)))
    probabilities = WordNoise(WordNoiseConfig("unigram", 1.0), torch.full((50,), 0.02))
    drawn = probabilities.apply(torch.zeros(9000, dtype=torch.int64), probabilities.draw(Keys(range(9000), 0)))
    assert set(drawn.tolist()) == set(range(50)) and drawn.bincount().max() < 250
    large = WordNoise(WordNoiseConfig("unigram", 1.0), torch.tensor([2**31, 2**31, 0]))
    assert 4300 < large.draw(Keys(range(9000), 0))[1].sum() < 4700, "counts of a corpus of more than 2**31 words"
    with pytest.raises(ValueError, match="kind: expected one of fgsm, .* found none"):
        Attack(AttackConfig(), torch.zeros(3), torch.ones(3))
    for corruption in ("gaussian_noise", "gaussian_blur"):
        with pytest.raises(ValueError, match="expected 8-bit images, .* found float32"):
            CORRUPTIONS[corruption](np.ones((1, 4, 4, 3), np.float32), 1, np.arange(1))
    for counts in (torch.zeros(5), torch.tensor([1.0, -1.0]), torch.tensor([float("nan")]), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="counts: expected counts or probabilities"):
            WordNoise(WordNoiseConfig("unigram"), counts)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: volume(1, 1), "volume: expected gains"),
        (lambda: volume(2, 1), "volume: expected gains"),
        (lambda: telephone(8000, ("GSM",)), "codecs: expected some of ULAW, ALAW, GSM610, found"),
        (lambda: image_noise(scale=1), "every strength is 0, so the noise would do nothing"),
        (lambda: image_noise(0.5, scale=0), "scale: expected the largest pixel"),
        (lambda: image_noise(0.5, scale=1, mean=0.5), "mean and std both, or none"),
        (lambda: image_noise(0.5, scale=1, mean=0.5, std=0.0), "std: expected numbers above 0"),
        (lambda: image_noise(lighting=0.1, scale=1), "lighting and colors go together"),
        (lambda: image_noise(brightness=2.0, scale=1), "brightness: expected float in"),
        (lambda: fgsm(nn.Linear(1, 1), 0, scale=1), "eps: expected a number above 0"),
        (lambda: word_noise(0.0, mask_id=3), "p: expected a probability above 0"),
        (lambda: word_noise(0.2, mask_id=None), "a tokenizer without a mask token has mask_id None"),
        (lambda: word_noise(0.2, mask_id=3, counts=[1, 2]), "give mask_id or counts, one of them"),
        (lambda: word_noise(0.2, counts=[1.0, 2.0], protect=[0, 1]), "counts: expected counts or probabilities"),
    ],
)
def test_noises_that_would_do_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_bad_folders_are_refused(folders, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        additive(tmp_path / "nowhere")
    with pytest.raises(UserError, match="talkers: 4 recordings, too few for 5 talkers"):
        babble(folders / "talkers", talkers=(5, 7))
    with pytest.raises(ValueError, match="talkers: expected 1 <= least <= most"):
        babble(folders / "talkers", talkers=(3, 2))
    for rate in (0, 8000.0):
        for make in (lambda r: additive(folders / "noises", r), lambda r: reverb(folders / "rooms", r), telephone):
            with pytest.raises(ValueError, match="rate: expected whole Hz above 0"):
                make(rate)
    for snr in ((15, 0), (1, 2, 3), (), "loud", float("inf")):
        with pytest.raises(ValueError, match="snrs?: expected"):
            additive(folders / "noises", snr=snr)
    with pytest.raises(ValueError, match=r"snr: expected a number of dB or \(low, high\), found \(15, 0\)"):
        additive(folders / "noises", snr=(15, 0))
