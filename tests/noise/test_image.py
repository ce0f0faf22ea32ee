import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.core.rng import Keys
from irl.data.augment import Crops
from irl.noise.image import GRAY, YIQ, ImageNoise, ImageNoiseConfig, hue_rotation, lighting_of
from irl.vision.data import color_sums

STILL = {"brightness": 0.0, "contrast": 0.0, "lighting": 0.0}
ALL = {"brightness": 0.5, "contrast": 0.4, "saturation": 0.6, "hue": 0.3, "lighting": 0.2, "gaussian": 3.0}
DIRECTIONS = torch.tensor([[30.0, 29.0, 28.0], [9.0, 0.0, -9.0], [2.0, -4.0, 2.0]])


def keys(count, **others):
    return Keys(torch.arange(count), 1, "noise", **others)


def images(count, size=6):
    torch.manual_seed(0)
    return torch.rand(count, 3, size, size) * 255


def plain(x, params, clip):
    """One image (3, H, W) in float64, one pixel after the other, one noise after the other."""
    x, one = x.double().numpy().copy(), {name: value.double().numpy() for name, value in params.items()}
    pixels = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2])]
    gray = np.array(GRAY)
    if "brightness" in one:
        x *= one["brightness"]
    if "contrast" in one:
        mean = np.mean([gray @ x[:, i, j] for i, j in pixels])
        x = one["contrast"] * x + (1 - one["contrast"]) * mean
    if "saturation" in one:
        for i, j in pixels:
            x[:, i, j] = one["saturation"] * x[:, i, j] + (1 - one["saturation"]) * (gray @ x[:, i, j])
    if "hue" in one:
        to = np.array(YIQ)
        for i, j in pixels:
            y, a, b = to @ x[:, i, j]
            turned = (a + 1j * b) * np.exp(1j * one["hue"])
            x[:, i, j] = np.linalg.solve(to, [y, turned.real, turned.imag])
    if "lighting" in one:
        x += one["lighting"][:, None, None]
    if "gaussian" in one:
        x += one["gaussian"]
    return np.clip(x, 0, 255) if clip else x


def row(params, i):
    return {name: value[i] for name, value in params.items()}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("parts", [*([name] for name in ALL), ["brightness", "contrast", "lighting"], list(ALL)])
def test_equals_a_plain_loop(parts, clip, layout):
    noise = ImageNoise(ImageNoiseConfig(**{**STILL, **{p: ALL[p] for p in parts}}, clip=clip), DIRECTIONS)
    x = images(5).contiguous(memory_format=layout)
    before = x.clone()
    params = noise.draw(keys(5), (6, 6))
    assert set(params) == set(parts)
    found = noise.apply(x, params)
    assert torch.equal(x, before), "the input is never written"
    assert clip or found.is_contiguous(memory_format=layout)
    for i in range(5):
        np.testing.assert_allclose(found[i].double().numpy(), plain(x[i], row(params, i), clip), atol=2e-3)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_equals_torchvision(name):
    functional = pytest.importorskip("torchvision.transforms.functional")
    adjust = getattr(functional, f"adjust_{name}")
    x = images(4)
    noise = ImageNoise(ImageNoiseConfig(**{**STILL, name: 0.5}, clip=True))
    params = noise.draw(keys(4))
    expected = torch.stack([255 * adjust(x[i] / 255, float(params[name][i])) for i in range(4)])
    # Its weights of gray have a fourth digit: .2989.
    torch.testing.assert_close(noise.apply(x, params), expected, atol=0.05, rtol=0)


@given(rows=st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True), epoch=st.integers(0, 3))
def test_an_image_has_its_noise_in_any_batch(rows, epoch):
    noise = ImageNoise(ImageNoiseConfig(**ALL), DIRECTIONS)
    everything = noise.draw(keys(41, epoch=epoch), (2, 2))
    ids = torch.tensor(rows)
    some = noise.draw(Keys(ids, 1, "noise", epoch), (2, 2))
    assert all(torch.equal(everything[name][ids], some[name]) for name in everything)


def test_draws_have_their_distributions():
    noise = ImageNoise(ImageNoiseConfig(**ALL, lighting_axes="deviations"), torch.eye(3))
    params = noise.draw(keys(20000), (1, 1))
    for name, low, high in (
        ("brightness", 0.5, 1.5),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.4, 1.6),
        ("hue", -0.3 * math.pi, 0.3 * math.pi),
    ):
        x = params[name]
        assert low <= float(x.min()) < low + 0.01 and high - 0.01 < float(x.max()) <= high
        assert float(x.mean()) == pytest.approx((low + high) / 2, abs=0.02)
    assert float(params["lighting"].std()) == pytest.approx(0.2, rel=0.02)
    assert float(params["gaussian"].std()) == pytest.approx(3.0, rel=0.02)
    names = ["brightness", "contrast", "saturation", "hue"]
    together = torch.corrcoef(torch.stack([params[name].double() for name in names]))
    assert (together - torch.eye(4)).abs().max() < 0.03
    other = noise.draw(keys(20000, copy=1), (1, 1))
    assert abs(float(torch.corrcoef(torch.stack([params["hue"], other["hue"]]))[0, 1])) < 0.03


@given(angle=st.floats(-3.2, 3.2), other=st.floats(-3.2, 3.2))
def test_hue_is_a_rotation_that_keeps_gray(angle, other):
    a, b, both = (hue_rotation(torch.tensor([x]))[0] for x in (angle, other, angle + other))
    torch.testing.assert_close(a @ b, both, atol=1e-5, rtol=0)
    gray = torch.tensor(GRAY)
    torch.testing.assert_close(gray @ a, gray, atol=1e-6, rtol=0)
    # A gray pixel is left alone, as far as YIQ's rounded rows sum to zero.
    torch.testing.assert_close(a @ torch.ones(3), torch.ones(3), atol=6e-3, rtol=0)


def test_no_strength_is_no_noise():
    noise = ImageNoise(ImageNoiseConfig(**STILL))
    x = images(3)
    assert noise.draw(keys(3)) == {} and torch.equal(noise.apply(x, {}), x)


def test_lighting_follows_the_covariance_of_the_colours():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 5, 4, 3)) // np.array([1, 2, 4])
    colors = color_sums(torch.from_numpy(pixels.astype(np.uint8)), chunk=7)
    flat = pixels.reshape(-1, 3).astype(float)
    assert colors.count == len(flat)
    np.testing.assert_allclose(colors.mean.numpy(), flat.mean(0))
    covariance = np.cov(flat.T, bias=True)
    np.testing.assert_allclose(colors.covariance.numpy(), covariance, rtol=1e-9)
    directions = lighting_of(colors.covariance).double().numpy()
    # Rows are orthogonal, and sum_i sigma_i^2 e_i e_i^T is the covariance: noise of std 1 has the colours' own.
    np.testing.assert_allclose(directions.T @ directions, covariance, rtol=1e-4, atol=1e-3)
    sizes = np.linalg.norm(directions, axis=1)
    assert (np.diff(sizes) <= 0).all() and (directions[np.arange(3), np.abs(directions).argmax(1)] > 0).all()


def test_lighting_is_krizhevskys():
    """With ImageNet's eigenvalues, .2175, .0188 and .0045 on [0, 1], its shift is alpha_i lambda_i e_i."""
    values = torch.tensor([0.2175, 0.0188, 0.0045], dtype=torch.float64)
    vectors = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    directions = lighting_of(255**2 * (vectors * values) @ vectors.T)
    noise = ImageNoise(ImageNoiseConfig(**{**STILL, "lighting": 0.1}), directions)
    shifts = noise.draw(keys(40000))["lighting"].double()
    # MXNet writes 55.46, 4.794, 1.148 on the scale 0-255.
    along = (shifts @ vectors).std(0) / 0.1
    assert along.tolist() == pytest.approx([55.46, 4.794, 1.148], rel=0.02)


def test_crops_and_flips_equal_a_plain_loop():
    x = torch.randint(0, 256, (9, 6, 7, 3), dtype=torch.uint8)
    crops = Crops(pad=2)
    rows = torch.tensor([4, 0, 8, 4])
    k = Keys(rows, 3, "crops", 5)
    found = crops.apply(x, rows, k)
    assert found.shape == (4, 3, 6, 7) and found.dtype == torch.uint8
    moves, flips = k.integers(2, 5), k.sub("flip").integers(1, 2)[:, 0]
    assert torch.equal(found[0], found[3]), "an image's crop is its own, wherever it stands"
    for i, number in enumerate(rows.tolist()):
        padded = np.pad(x[number].numpy(), ((2, 2), (2, 2), (0, 0)), mode="reflect")
        y0, x0 = moves[i].tolist()
        expected = padded[y0 : y0 + 6, x0 : x0 + 7]
        expected = expected[:, ::-1] if flips[i] else expected
        assert (found[i].permute(1, 2, 0).numpy() == expected).all()


def test_no_crops_no_flips_is_the_image():
    x = torch.randint(0, 256, (3, 4, 4, 3), dtype=torch.uint8)
    still = Crops(pad=0, flip=False)
    rows = torch.tensor([2, 0])
    assert torch.equal(still.apply(x, rows, keys(2)), x[rows].movedim(3, 1))


def test_all_crops_and_flips_occur_alike():
    k = Keys(torch.arange(20000), 0, "crops")
    crops = Crops(4)
    x = torch.arange(81, dtype=torch.uint8).view(1, 9, 9, 1).expand(1, 9, 9, 3)
    # The middle of a crop stays where it is when the crop is flipped.
    found = crops.apply(x, torch.zeros(20000, dtype=torch.int64), k)[:, 0, 4, 4]
    counts = torch.bincount(found.long(), minlength=81)
    assert counts.min() > 150 and counts.max() < 350  # 247 expected


@pytest.mark.parametrize("wrong", [{"brightness": 1.5}, {"hue": -0.1}, {"lighting": -1.0}, {"gaussian": math.inf}])
def test_bad_strengths_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImageNoiseConfig(**wrong)
